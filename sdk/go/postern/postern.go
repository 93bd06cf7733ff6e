// Package postern calls Postern's host functions from a Go program that was built with GOOS=wasip1 GOARCH=wasm.
// It talks over file descriptor 3, a line of JSON each way (docs/webassembly.md).
package postern

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
)

// Error is what a host function refused or failed with.
type Error struct {
	Name    string `json:"name"`
	Message string `json:"message"`
	// Code is the SQLSTATE of a database error, else what the host function says.
	Code string `json:"code"`
}

func (e *Error) Error() string { return e.Name + ": " + e.Message }

var (
	mutex   sync.Mutex
	channel = os.NewFile(3, "postern")
	answers = bufio.NewReader(channel)
)

// Call makes the call op with the fields of a payload, and waits for its answer, which it puts into result unless that
// is nil. The payload is a struct or a map without a field "op"; nil stands for none.
func Call(op string, payload any, result any) error {
	fields := []byte("{}")
	if payload != nil {
		var err error
		if fields, err = json.Marshal(payload); err != nil {
			return err
		}
	}
	if len(fields) == 0 || fields[0] != '{' {
		return fmt.Errorf("postern: the payload of %s is not an object", op)
	}
	request := append([]byte(`{"op":"`+op+`"`), ',')
	if len(fields) == 2 {
		request = request[:len(request)-1]
	}
	request = append(append(request, fields[1:]...), '\n')

	mutex.Lock()
	defer mutex.Unlock()
	if _, err := channel.Write(request); err != nil {
		return err
	}
	line, err := answers.ReadBytes('\n')
	if err != nil {
		return err
	}
	var answer struct {
		Ok    bool            `json:"ok"`
		Value json.RawMessage `json:"value"`
		Error *Error          `json:"error"`
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return err
	}
	if !answer.Ok {
		if answer.Error == nil {
			return errors.New("postern: " + op + " failed")
		}
		return answer.Error
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Value, result)
}
