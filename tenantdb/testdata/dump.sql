-- Reads a database's schema as statements that make it again: one row each, in an order in which they can be run. It is a
-- query of our own because pg_dump writes differently from release to release; this says the same on PostgreSQL 15 to 18.
-- The log's months are left out: they are made by the calendar, and the catalogue query watches over them.
WITH s AS (
  SELECT oid, nspname, nspowner, nspacl FROM pg_namespace WHERE nspname IN ('avouch', 'avouch_jobs')
), r AS (
  SELECT c.*, format('%I.%I', s.nspname, c.relname) AS name, rpad(s.nspname, 63) AS name_space FROM pg_class c JOIN s ON s.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relname !~ '^audit_entry_\d{4}_\d{2}$'
), t AS (
  SELECT * FROM r WHERE relkind IN ('r', 'p')
), a AS (
  SELECT t.oid, t.name, t.relispartition, a.*, format_type(a.atttypid, a.atttypmod) AS type, pg_get_expr(d.adbin, d.adrelid) AS value
  FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
), f AS (
  SELECT p.*, format('%s %I.%I(%s)', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END, s.nspname, p.proname,
    pg_get_function_identity_arguments(p.oid)) AS name, rpad(s.nspname, 63) AS name_space FROM pg_proc p JOIN s ON s.oid = p.pronamespace
), y AS (
  SELECT y.*, format('%I.%I', s.nspname, y.typname) AS name, rpad(s.nspname, 63) AS name_space FROM pg_type y JOIN s ON s.oid = y.typnamespace
  WHERE y.typelem = 0 AND y.typtype <> 'c' OR y.typtype = 'c' AND (SELECT relkind FROM pg_class WHERE oid = y.typrelid) = 'c'
), g AS (
  SELECT g.*, t.name AS tbl FROM pg_trigger g JOIN t ON t.oid = g.tgrelid WHERE NOT g.tgisinternal OR g.tgparentid <> 0
), owned AS (
  SELECT 1 AS n, 'SCHEMA ' || quote_ident(nspname) AS what, nspowner AS owner, nspacl AS acl, 'n'::"char" AS kind FROM s
  UNION ALL SELECT 2, CASE relkind WHEN 'S' THEN 'SEQUENCE ' WHEN 'v' THEN 'VIEW ' WHEN 'm' THEN 'MATERIALIZED VIEW ' ELSE 'TABLE ' END || name,
    relowner, relacl, CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char" FROM r
  UNION ALL SELECT 3, name, proowner, proacl, 'f' FROM f
  UNION ALL SELECT 4, 'TYPE ' || name, typowner, typacl, 'T' FROM y
), granted AS (
  SELECT n, what, '' AS columns, owner, x.*, kind FROM owned, aclexplode(coalesce(acl, acldefault(kind, owner))) x
  UNION ALL SELECT 2, 'TABLE ' || a.name, '(' || quote_ident(a.attname) || ')', t.relowner, x.*, 'c' FROM a JOIN t ON t.oid = a.attrelid, aclexplode(a.attacl) x
), grants AS (
  SELECT n, what, owner, grantee, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS whom, is_grantable,
    string_agg(privilege_type || CASE columns WHEN '' THEN '' ELSE ' ' || columns END, ', ' ORDER BY privilege_type, columns) AS rights
  FROM granted WHERE grantee <> owner GROUP BY 1, 2, 3, 4, 5, 6
), lines(part, place, line) AS (
  SELECT 10, nspname::text, 'CREATE SCHEMA ' || quote_ident(nspname) FROM s
  -- Made in the order in which the migrations made them, for each may need those before it.
  UNION ALL SELECT 20, name_space || lpad(oid::text, 10, '0'), format('CREATE TYPE %s AS ENUM (%s)', name,
    (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = y.oid)) FROM y WHERE typtype = 'e'
  UNION ALL SELECT 20, name_space || lpad(oid::text, 10, '0'), 'unknown kind of type: ' || name FROM y WHERE typtype NOT IN ('e', 'b', 'p')
  UNION ALL SELECT 20, name_space || lpad(oid::text, 10, '0'), 'unknown kind of relation: ' || name FROM r WHERE relkind NOT IN ('r', 'p', 'S', 'v')
  UNION ALL SELECT 20, name_space || lpad(oid::text, 10, '0'), rtrim(pg_get_functiondef(oid), E'\n') FROM f WHERE prokind <> 'a'
  UNION ALL SELECT 20, f.name_space || lpad(f.oid::text, 10, '0'), format(E'CREATE %s (\n  SFUNC = %s, STYPE = %s%s, PARALLEL = %s\n)', f.name, g.aggtransfn, format_type(g.aggtranstype, NULL),
    ', INITCOND = ' || quote_literal(g.agginitval), CASE f.proparallel WHEN 's' THEN 'SAFE' WHEN 'r' THEN 'RESTRICTED' ELSE 'UNSAFE' END)
    FROM f JOIN pg_aggregate g ON g.aggfnoid = f.oid
  UNION ALL SELECT 20, r.name_space || lpad(r.oid::text, 10, '0'), format('CREATE SEQUENCE %s AS %s START %s INCREMENT %s MINVALUE %s MAXVALUE %s CACHE %s%s', r.name,
    format_type(q.seqtypid, NULL), q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcache, CASE WHEN q.seqcycle THEN ' CYCLE' ELSE '' END)
    FROM r JOIN pg_sequence q ON q.seqrelid = r.oid WHERE NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = r.oid AND deptype = 'i')
  UNION ALL SELECT 20, name_space || lpad(oid::text, 10, '0'), format('CREATE VIEW %s%s AS%s', name, ' WITH (' || array_to_string(reloptions, ', ') || ')', E'\n' || rtrim(pg_get_viewdef(oid), ';')) FROM r WHERE relkind = 'v'
  UNION ALL SELECT 20, t.name_space || lpad(t.oid::text, 10, '0'), format('CREATE %sTABLE %s%s%s%s%s', CASE t.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END, t.name,
    ' PARTITION OF ' || (SELECT inhparent::regclass FROM pg_inherits WHERE inhrelid = t.oid),
    CASE WHEN t.relispartition THEN ' ' || pg_get_expr(t.relpartbound, t.oid) ELSE (SELECT E' (\n' || string_agg('  ' || quote_ident(attname) || ' ' || type
      || CASE WHEN attcollation NOT IN (0, (SELECT typcollation FROM pg_type WHERE pg_type.oid = atttypid)) THEN ' COLLATE ' || attcollation::regcollation ELSE '' END
      || CASE WHEN attidentity <> '' THEN CASE attidentity WHEN 'a' THEN ' GENERATED ALWAYS AS IDENTITY' ELSE ' GENERATED BY DEFAULT AS IDENTITY' END
         WHEN attgenerated = 's' THEN ' GENERATED ALWAYS AS (' || value || ') STORED' WHEN attgenerated <> '' THEN ' GENERATED ALWAYS AS (' || value || ') VIRTUAL'
         WHEN value IS NOT NULL THEN ' DEFAULT ' || value ELSE '' END
      || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END, E',\n' ORDER BY attnum) || E'\n)' FROM a WHERE a.attrelid = t.oid) END,
    ' PARTITION BY ' || pg_get_partkeydef(t.oid), ' WITH (' || array_to_string(t.reloptions, ', ') || ')') FROM t
  UNION ALL SELECT 30, name || ' ' || attname, format('ALTER TABLE %s ALTER %I SET STORAGE %s', name, attname,
    CASE attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END)
    FROM a WHERE attstorage <> (SELECT typstorage FROM pg_type WHERE pg_type.oid = atttypid)
    AND NOT (relispartition AND attstorage = (SELECT p.attstorage FROM pg_attribute p JOIN pg_inherits i ON i.inhparent = p.attrelid WHERE i.inhrelid = a.attrelid AND p.attname = a.attname))
  UNION ALL SELECT 30, name || ' ' || attname, format('ALTER TABLE %s ALTER %I SET COMPRESSION %s', name, attname, CASE attcompression WHEN 'l' THEN 'lz4' ELSE 'pglz' END) FROM a WHERE attcompression <> ''
  UNION ALL SELECT 30, name || ' ' || attname, format('ALTER TABLE %s ALTER %I SET STATISTICS %s', name, attname, attstattarget) FROM a WHERE attstattarget >= 0
  UNION ALL SELECT 30, r.name, format('ALTER SEQUENCE %s OWNED BY %s.%I', r.name, d.refobjid::regclass, (SELECT attname FROM pg_attribute WHERE attrelid = d.refobjid AND attnum = d.refobjsubid))
    FROM r JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.deptype = 'a' WHERE r.relkind = 'S'
  -- PostgreSQL 18 has a constraint for each NOT NULL; they are at their columns.
  UNION ALL SELECT CASE k.contype WHEN 'f' THEN 50 ELSE 40 END, t.name || ' ' || k.conname, format('ALTER TABLE %s ADD CONSTRAINT %I %s', t.name, k.conname, pg_get_constraintdef(k.oid))
    FROM pg_constraint k JOIN t ON t.oid = k.conrelid WHERE k.contype NOT IN ('n', 't') AND k.conparentid = 0 AND k.conislocal AND k.coninhcount = 0
  UNION ALL SELECT 60, t.name || ' ' || c.relname, replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ')
    FROM pg_index i JOIN t ON t.oid = i.indrelid JOIN pg_class c ON c.oid = i.indexrelid
    WHERE NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.conrelid = i.indrelid)
  UNION ALL SELECT 70, tbl || ' ' || tgname, pg_get_triggerdef(oid) FROM g WHERE tgparentid = 0
  UNION ALL SELECT 71, tbl || ' ' || tgname, format('ALTER TABLE %s %s TRIGGER %I', tbl, CASE tgenabled WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'DISABLE' END, tgname) FROM g WHERE tgenabled <> 'O'
  UNION ALL SELECT 80, name, format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name) FROM t WHERE relrowsecurity
  UNION ALL SELECT 81, name, format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', name) FROM t WHERE relforcerowsecurity
  UNION ALL SELECT 82, t.name || ' ' || p.polname, format('CREATE POLICY %I ON %s%s FOR %s TO %s%s%s', p.polname, t.name, CASE WHEN p.polpermissive THEN '' ELSE ' AS RESTRICTIVE' END,
    CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
    (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE role::regrole::text END, ', ' ORDER BY role::regrole::text) FROM unnest(p.polroles) role),
    ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')') FROM pg_policy p JOIN t ON t.oid = p.polrelid
  -- Who is not one of Avouch's roles is whoever migrated.
  UNION ALL SELECT 90, n || what, format('ALTER %s OWNER TO %s', what, owner::regrole) FROM owned WHERE owner::regrole::text LIKE 'avouch\_%'
    AND NOT (what LIKE 'SEQUENCE %' AND what IN (SELECT 'SEQUENCE ' || r.name FROM r JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.deptype IN ('a', 'i')))
  UNION ALL SELECT 100, n || what, 'REVOKE ALL ON ' || what || ' FROM PUBLIC' FROM owned o WHERE EXISTS (SELECT FROM aclexplode(acldefault(kind, owner)) WHERE grantee = 0)
    AND NOT EXISTS (SELECT FROM grants g WHERE g.what = o.what AND g.grantee = 0)
  UNION ALL SELECT 101, n || what || whom, format('GRANT %s ON %s TO %s%s', rights, what, whom, CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) FROM grants o
    WHERE NOT (grantee = 0 AND what ~ '^(FUNCTION|PROCEDURE|AGGREGATE|TYPE) ' AND rights IN ('EXECUTE', 'USAGE'))
  UNION ALL SELECT 110, format('%s %s %s', s.nspname, d.defaclrole::regrole, d.defaclobjtype), format('ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA %I GRANT %s ON %s TO %s%s',
    d.defaclrole::regrole, s.nspname, x.privilege_type, CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END,
    CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END, CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_default_acl d JOIN s ON s.oid = d.defaclnamespace, aclexplode(d.defaclacl) x
  UNION ALL SELECT 120, 'SCHEMA ' || s.nspname, format('COMMENT ON SCHEMA %I IS %L', s.nspname, d.description) FROM pg_description d JOIN s ON s.oid = d.objoid AND d.classoid = 'pg_namespace'::regclass
  UNION ALL SELECT 120, r.name || ' ' || d.objsubid, CASE d.objsubid WHEN 0 THEN format('COMMENT ON %s %s IS %L', CASE r.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, r.name, d.description)
    ELSE format('COMMENT ON COLUMN %s.%I IS %L', r.name, (SELECT attname FROM pg_attribute WHERE attrelid = r.oid AND attnum = d.objsubid), d.description) END
    FROM pg_description d JOIN r ON r.oid = d.objoid AND d.classoid = 'pg_class'::regclass
  UNION ALL SELECT 120, f.name, format('COMMENT ON %s IS %L', f.name, d.description) FROM pg_description d JOIN f ON f.oid = d.objoid AND d.classoid = 'pg_proc'::regclass
)
SELECT part, line FROM lines ORDER BY part, place COLLATE "C", line COLLATE "C"
