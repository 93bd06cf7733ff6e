/**
 * What guest SQL may be made of. The gate denies every node, statement and built-in name that is not accounted for
 * here. The lists are data; `sql-gate.ts` says how they are applied.
 */

/** Statements for every function. */
export const QUERY_STATEMENTS: ReadonlySet<string> = new Set([
  'SelectStmt', // also VALUES and TABLE
  'InsertStmt',
  'UpdateStmt',
  'DeleteStmt',
  'MergeStmt',
]);

/**
 * Further statements for functions configured `service_role`. Not among them, on purpose: anything about roles, the
 * session, transactions, COPY, DO, CALL, functions (their text is run and never seen here: one that does EXECUTE is a way past
 * the gate for whoever may call it), extensions, foreign servers, subscriptions, event triggers, languages, casts to C.
 */
export const DEFINITION_STATEMENTS: ReadonlySet<string> = new Set([
  'CreateStmt',
  'CreateTableAsStmt',
  'ViewStmt',
  'RefreshMatViewStmt',
  'IndexStmt',
  'CreateSeqStmt',
  'AlterSeqStmt',
  'CreateSchemaStmt',
  'CreateEnumStmt',
  'AlterEnumStmt',
  'CompositeTypeStmt',
  'CreateDomainStmt',
  'AlterDomainStmt',
  'CreateRangeStmt',
  'CreateTrigStmt',
  'CreatePolicyStmt',
  'AlterPolicyStmt',
  'CreateStatsStmt',
  'RuleStmt',
  'AlterTableStmt',
  'RenameStmt',
  'AlterObjectSchemaStmt',
  'DropStmt',
  'TruncateStmt',
  'CommentStmt',
  'GrantStmt',
]);

/** Nodes inside a query, beside the statements themselves. */
export const QUERY_NODES: ReadonlySet<string> = new Set([
  'A_ArrayExpr',
  'A_Const',
  'A_Expr',
  'A_Indices',
  'A_Indirection',
  'A_Star',
  'Alias',
  'BitString',
  'BoolExpr',
  'Boolean',
  'BooleanTest',
  'CTECycleClause',
  'CTESearchClause',
  'CaseExpr',
  'CaseWhen',
  'CoalesceExpr',
  'CollateClause',
  'ColumnRef',
  'CommonTableExpr',
  'Float',
  'FuncCall',
  'GroupingFunc',
  'GroupingSet',
  'IndexElem',
  'InferClause',
  'Integer',
  'JoinExpr',
  'JsonAggConstructor',
  'JsonArgument',
  'JsonArrayAgg',
  'JsonArrayConstructor',
  'JsonArrayQueryConstructor',
  'JsonBehavior',
  'JsonFormat',
  'JsonFuncExpr',
  'JsonIsPredicate',
  'JsonKeyValue',
  'JsonObjectAgg',
  'JsonObjectConstructor',
  'JsonOutput',
  'JsonParseExpr',
  'JsonReturning',
  'JsonScalarExpr',
  'JsonSerializeExpr',
  'JsonTable',
  'JsonTableColumn',
  'JsonTablePathSpec',
  'JsonValueExpr',
  'List',
  'LockingClause',
  'MergeWhenClause',
  'MinMaxExpr',
  'MultiAssignRef',
  'NamedArgExpr',
  'NullTest',
  'OnConflictClause',
  'ParamRef',
  'RangeFunction',
  'RangeSubselect',
  'RangeTableFunc',
  'RangeTableFuncCol',
  'RangeTableSample',
  'RangeVar',
  'ResTarget',
  'ReturningClause',
  'ReturningOption',
  'RowExpr',
  'SQLValueFunction',
  'SetToDefault',
  'SortBy',
  'String',
  'SubLink',
  'TypeCast',
  'TypeName',
  'WindowDef',
  'WithClause',
  'XmlExpr',
  'XmlSerialize',
]);

/** Nodes that only definitions use. */
export const DEFINITION_NODES: ReadonlySet<string> = new Set([
  'AccessPriv',
  'AlterTableCmd',
  'ColumnDef',
  'Constraint',
  'DefElem',
  'ObjectWithArgs',
  'PartitionBoundSpec',
  'PartitionCmd',
  'PartitionElem',
  'PartitionRangeDatum',
  'PartitionSpec',
  'ReplicaIdentityStmt',
  'ReturnStmt',
  'RoleSpec',
  'StatsElem',
  'TableLikeClause',
  'TriggerTransition',
]);

/**
 * Built-in names that begin with `pg_` and tell or change nothing beyond the statement itself. Every other `pg_` name
 * is denied, as function, as relation and as attribute: `pg_read_file`, `pg_stat_activity`, `pg_advisory_lock`,
 * `pg_notify`, `pg_terminate_backend`, `pg_settings`, `pg_proc`, …, and whatever a later Postgres adds.
 */
export const ALLOWED_PG_FUNCTIONS: ReadonlySet<string> = new Set([
  'pg_client_encoding',
  'pg_collation_for',
  'pg_column_size',
  'pg_current_xact_id',
  'pg_current_xact_id_if_assigned',
  'pg_get_serial_sequence',
  'pg_input_error_info',
  'pg_input_is_valid',
  'pg_is_in_recovery',
  'pg_size_bytes',
  'pg_size_pretty',
  'pg_sleep', // under statement_timeout and the invocation's deadline
  'pg_sleep_for',
  'pg_sleep_until',
  'pg_trigger_depth',
  'pg_typeof',
]);

/** Catalogs that hold names and shapes only: every role may read them, and tools that look at a schema need them. */
export const ALLOWED_PG_RELATIONS: ReadonlySet<string> = new Set([
  'pg_attrdef',
  'pg_attribute',
  'pg_class',
  'pg_collation',
  'pg_constraint',
  'pg_description',
  'pg_enum',
  'pg_index',
  'pg_indexes',
  'pg_namespace',
  'pg_operator',
  'pg_range',
  'pg_sequence',
  'pg_sequences',
  'pg_tables',
  'pg_timezone_abbrevs',
  'pg_timezone_names',
  'pg_type',
]);

/** Schemas that no guest statement may name. `net`, `cron`, `vault` …: extensions that send, schedule or decrypt. */
export const DENIED_SCHEMAS: ReadonlySet<string> = new Set([
  'postern',
  'postern_guest',
  'cron',
  'net',
  'vault',
  'pgsodium',
  'pgsodium_masks',
  'aws_lambda',
  'aws_s3',
  'aws_commons',
  'dbms_sql',
  'dbms_pipe',
  'dbms_alert',
  'utl_file',
]);

/**
 * Functions that set state, run SQL from text, reach files, the network or other sessions. By name alone, whatever the
 * schema, since extensions live in any schema; a function of the user's own with such a name is refused too.
 */
export const DENIED_FUNCTIONS: ReadonlySet<string> = new Set([
  'set_config',
  'setseed', // the session's random seed is not reset by DISCARD ALL
  'set_limit', // pg_trgm: a session setting
  'shobj_description', // comments on roles and databases of the whole cluster
  // run SQL from text, or read a relation named by text
  'query_to_xml',
  'query_to_xmlschema',
  'query_to_xml_and_xmlschema',
  'cursor_to_xml',
  'cursor_to_xmlschema',
  'table_to_xml',
  'table_to_xmlschema',
  'table_to_xml_and_xmlschema',
  'schema_to_xml',
  'schema_to_xmlschema',
  'schema_to_xml_and_xmlschema',
  'database_to_xml',
  'database_to_xmlschema',
  'database_to_xml_and_xmlschema',
  'ts_stat',
  'ts_rewrite', // its (tsquery, text) form runs the text
  'crosstab',
  'crosstab2',
  'crosstab3',
  'crosstab4',
  'crosstab_hash',
  'connectby',
  'xpath_table',
  'xslt_process',
  'cypher',
  'run_job',
  'add_job',
  // large objects, beside the lo_ prefix
  'loread',
  'lowrite',
  // who else is there
  'inet_client_addr',
  'inet_client_port',
  'inet_server_addr',
  'inet_server_port',
  // extensions that send
  'http',
  'http_get',
  'http_post',
  'http_put',
  'http_patch',
  'http_delete',
  'http_head',
  'http_set_curlopt',
  'http_reset_curlopt',
  // maintenance entry points
  'brin_desummarize_range',
  'brin_summarize_new_values',
  'brin_summarize_range',
  'gin_clean_pending_list',
  'currtid2',
  'amvalidate',
]);

/** Prefixes of families of such functions. */
export const DENIED_FUNCTION_PREFIXES: readonly string[] = [
  'lo_',
  'dblink',
  'postgres_fdw_',
  'binary_upgrade_',
  'ri_fkey_',
  'http_request',
  'plpgsql_',
  'plpython',
  'verify_heapam',
];

/**
 * Settings that `current_setting` may read, and all that begin with `request.`. Databases keep secrets in settings of their
 * own (`app.settings.jwt_secret`), so the name is a constant of this list. Policies and functions read what they like.
 */
export const READABLE_SETTINGS: ReadonlySet<string> = new Set([
  'client_encoding',
  'datestyle',
  'default_text_search_config',
  'default_transaction_isolation',
  'idle_in_transaction_session_timeout',
  'intervalstyle',
  'lock_timeout',
  'max_identifier_length',
  'postern.depth',
  'role',
  'search_path',
  'server_encoding',
  'server_version',
  'server_version_num',
  'statement_timeout',
  'timezone',
  'transaction_isolation',
  'transaction_read_only',
]);
