// Renders a Helm chart as `helm template` does, as far as ours needs it: values of the chart and of a file over them, sprig,
// include, tpl, required, fail, toYaml, fromYaml, .Release, .Chart, .Files.Get, .Capabilities. No subcharts, no lookup, no hooks.
// For machines that have Go and Debian's packages but no Helm (see test/deploy/helm-chart.test.ts):
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run ./tools/helm-template [-f values.yaml] [-release name] [-namespace name] chart
//
// Like Helm it reads values as JSON, so numbers are floating point, and a template's missing value is an empty one.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type object = map[string]interface{}

type files struct{ root string }

// Get is empty for a file that is not there, as Helm's.
func (f files) Get(name string) string {
	text, err := os.ReadFile(filepath.Join(f.root, name))
	if err != nil {
		return ""
	}
	return string(text)
}

func main() {
	valuesFile := flag.String("f", "", "values over those of the chart")
	release := flag.String("release", "release", "name of the release")
	namespace := flag.String("namespace", "default", "namespace of the release")
	flag.Parse()
	rendered, err := render(flag.Arg(0), *valuesFile, *release, *namespace)
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
	fmt.Print(rendered)
}

func render(chart, valuesFile, release, namespace string) (string, error) {
	meta, err := readYaml(filepath.Join(chart, "Chart.yaml"))
	if err != nil {
		return "", err
	}
	values, err := readYaml(filepath.Join(chart, "values.yaml"))
	if err != nil {
		return "", err
	}
	if valuesFile != "" {
		given, err := readYaml(valuesFile)
		if err != nil {
			return "", err
		}
		merge(values, given)
	}
	templates, names, err := parse(chart)
	if err != nil {
		return "", err
	}
	scope := object{
		"Values":  values,
		"Chart":   capitalized(meta),
		"Release": object{"Name": release, "Namespace": namespace, "Service": "Helm", "IsInstall": true, "IsUpgrade": false, "Revision": 1},
		"Capabilities": object{
			"KubeVersion": object{"Version": "v1.33.0", "Major": "1", "Minor": "33"},
		},
		"Files": files{chart},
	}
	var out strings.Builder
	for _, name := range names {
		var text bytes.Buffer
		if err := templates.ExecuteTemplate(&text, name, scope); err != nil {
			return "", err
		}
		if strings.TrimSpace(text.String()) != "" {
			// What a template has for a missing value.
			fmt.Fprintf(&out, "---\n# Source: %s\n%s\n", name, strings.ReplaceAll(text.String(), "<no value>", ""))
		}
	}
	return out.String(), nil
}

// Partials, whose names begin with an underscore, are parsed and not rendered.
func parse(chart string) (*template.Template, []string, error) {
	root := template.New("chart").Option("missingkey=zero")
	root.Funcs(functions(root))
	paths, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	if err != nil {
		return nil, nil, err
	}
	sort.Strings(paths)
	var names []string
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		name := filepath.Base(path)
		if _, err := root.New(name).Parse(string(text)); err != nil {
			return nil, nil, err
		}
		if !strings.HasPrefix(name, "_") {
			names = append(names, name)
		}
	}
	return root, names, nil
}

func functions(root *template.Template) template.FuncMap {
	all := sprig.TxtFuncMap()
	// Helm takes these two away, for a chart must not read the environment of who installs it.
	delete(all, "env")
	delete(all, "expandenv")
	all["include"] = func(name string, data interface{}) (string, error) {
		var text strings.Builder
		err := root.ExecuteTemplate(&text, name, data)
		return text.String(), err
	}
	all["tpl"] = func(source string, data interface{}) (string, error) {
		inner, err := template.Must(root.Clone()).New("tpl").Parse(source)
		if err != nil {
			return "", err
		}
		var text strings.Builder
		err = inner.Execute(&text, data)
		return text.String(), err
	}
	all["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, errors.New(message)
		}
		return value, nil
	}
	all["fail"] = func(message string) (string, error) { return "", errors.New(message) }
	all["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	all["fromYaml"] = func(text string) (object, error) {
		value := object{}
		return value, yaml.Unmarshal([]byte(text), &value)
	}
	return all
}

func readYaml(path string) (object, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	value := object{}
	return value, yaml.Unmarshal(text, &value)
}

// Maps are merged, everything else is replaced, null removes the chart's value.
func merge(into, from object) {
	for key, value := range from {
		inner, isMap := value.(object)
		known, wasMap := into[key].(object)
		switch {
		case value == nil:
			delete(into, key)
		case isMap && wasMap:
			merge(known, inner)
		default:
			into[key] = value
		}
	}
}

// Templates see Chart.yaml's fields by the names of Helm's own struct: AppVersion for appVersion.
func capitalized(meta object) object {
	named := object{}
	for key, value := range meta {
		named[strings.ToUpper(key[:1])+key[1:]] = value
	}
	return named
}
