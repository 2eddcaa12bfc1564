package tenantdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/pgtest"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/migrations"
)

// rowsOf puts a row into each table that a migration makes, as a server of that time would: a migration that comes later
// meets them. Whoever adds a migration adds what its tables hold.
var rowsOf = []func(t *testing.T, db *DB, c Caller){foundationRows, agentRows, keyRows, peopleRows, vaultRows, rotationRows, byokRows, deletionRows, issuerRows}

func foundationRows(t *testing.T, db *DB, c Caller) {
	t.Helper()
	inChange(t, db, c, []string{
		`UPDATE avouch.organisation SET contact = '\x0102', monthly_quota = 7, token_lifetime = '3 hours', badge = true, version = 2`,
		`INSERT INTO avouch.installation (tenant_id, issuer) VALUES (avouch.tenant(), 'https://avouch.example.com')`,
		`INSERT INTO avouch.incident (tenant_id, incident_id, kind, subject, detail, opened_at) VALUES (avouch.tenant(), gen_random_uuid(), 'log.broken', 'x', 'It broke.', now())`,
		`INSERT INTO avouch.idempotency (tenant_id, actor, key, request, answer, status) VALUES (avouch.tenant(), 'key:1', 'once', '\x01', '\x02', 201)`,
	})
	h := head(t, db, c)
	if _, err := db.AppendSpending(t.Context(), []Draft{draft(t, db, h, "use")}, Spend{Tenant: c.Tenant(), Subject: "verify", Period: 7, Limit: 9}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Record(t.Context(), c, audit.Event{Type: "test.private", Private: []audit.Field{{Name: "name", Value: "Ada"}}}); err != nil {
		t.Fatal(err)
	}
}

func agentRows(t *testing.T, db *DB, c Caller) {
	t.Helper()
	const agent = `'0190b6f2-0000-7000-8000-0000000000aa'`
	inChange(t, db, c, []string{
		`INSERT INTO avouch.signing_key (tenant_id, kid, algorithm, use, public_key, private_key, created_at, signs_from) VALUES (avouch.tenant(), 'kid', 'ES256', 'token', '\x01', '\x02', now(), now())`,
		`INSERT INTO avouch.scope (tenant_id, name, risk, description, created_at) VALUES (avouch.tenant(), 'a:b', 'low', 'x', now())`,
		`INSERT INTO avouch.api_key (tenant_id, key_id, kind, live, name, hint, scopes, metadata, created_at) VALUES (avouch.tenant(), left(replace(avouch.tenant()::text, '-', ''), 4) || right(avouch.tenant()::text, 7), 'owner', true, 'first', 'avk_…', '{*}', '{"a":1}', now())`,
		`INSERT INTO avouch.api_key_verifier (tenant_id, key_id, digest, issued_at_ns, tenant_version, platform_version) SELECT tenant_id, key_id, sha256('x'), 1, 1, 1 FROM avouch.api_key`,
		`INSERT INTO avouch.agent (tenant_id, agent_id, name, scopes, visible_to, created_at) VALUES (avouch.tenant(), ` + agent + `, 'Robot', '{a:b}', ARRAY[avouch.tenant()], now())`,
		`INSERT INTO avouch.agent_key (tenant_id, agent_id, kid, use, algorithm, public_key, created_at) VALUES (avouch.tenant(), ` + agent + `, 'k', 'signing', 'Ed25519', '\x01', now())`,
		`INSERT INTO avouch.agent_token (tenant_id, jti, agent_id, generation, issued_at, expires_at, max_uses) VALUES (avouch.tenant(), gen_random_uuid(), ` + agent + `, 1, now(), now() + interval '1 day', 3)`,
	})
}

func keyRows(t *testing.T, db *DB, c Caller) {
	t.Helper()
	inChange(t, db, c, []string{
		`UPDATE avouch.api_key SET owner = 'ada', not_before = now(), max_uses = 7, allowed_cidrs = '{10.0.0.0/8,2001:db8::/32}',
			rate_limits = '[{"name":"a","limit":1,"duration_seconds":60}]', shares = '{abc}', replaces = 'a', replaced_by = 'b', first_id = 'c', leaked_at = now(), noticed = 30`,
		`INSERT INTO avouch.api_key_finder (tenant_id, finder, key_id, tenant_version, platform_version) SELECT tenant_id, sha256('y'), key_id, 1, 1 FROM avouch.api_key`,
		`INSERT INTO avouch.api_identity (tenant_id, owner, max_keys, rate_limits, metadata, created_at) VALUES (avouch.tenant(), 'ada', 3, '[]', '{"a":1}', now())`,
		`INSERT INTO avouch.api_key_use (tenant_id, key_id, used_at, client, refused) SELECT tenant_id, key_id, now(), '\x01', 2 FROM avouch.api_key`,
		`INSERT INTO avouch.counter (tenant_id, subject) VALUES (avouch.tenant(), 'rate:a')`,
	})
	h := head(t, db, c)
	if _, err := db.AppendSpending(t.Context(), []Draft{draft(t, db, h, "use")}, Spend{Tenant: c.Tenant(), Subject: "rate:a", Amount: 3, Window: time.Minute, Limit: 9}); err != nil {
		t.Fatal(err)
	}
}

func peopleRows(t *testing.T, db *DB, c Caller) {
	t.Helper()
	const ada, bob, group, other = `'0190b6f2-0000-7000-8000-0000000000a1'`, `'0190b6f2-0000-7000-8000-0000000000b0'`, `'0190b6f2-0000-7000-8000-0000000000c1'`, `gen_random_uuid()`
	person := func(id, address string) string {
		return `INSERT INTO avouch.person (tenant_id, person_id, profile, address, external, roles, created_at, verified_at) VALUES (avouch.tenant(), ` + id + `, '\x01', repeat('` + address + `', 26), repeat('` + address + `', 26), '{owner}', now(), now())`
	}
	inChange(t, db, c, []string{
		`UPDATE avouch.organisation SET rules = '{"mfa":"required"}', region = 'eu'`,
		person(ada, "a"), person(bob, "b"),
		`UPDATE avouch.api_key SET person = ` + ada,
		`INSERT INTO avouch.role (tenant_id, name, description, capabilities, created_at) VALUES (avouch.tenant(), 'keeper', 'x', '{keys:read}', now())`,
		`INSERT INTO avouch.person_group (tenant_id, group_id, name, roles, created_at) VALUES (avouch.tenant(), ` + group + `, 'Keepers', '{keeper}', now())`,
		`INSERT INTO avouch.group_member (tenant_id, group_id, person_id) VALUES (avouch.tenant(), ` + group + `, ` + ada + `)`,
		`INSERT INTO avouch.invitation (tenant_id, invitation_id, profile, address, roles, invited_by, created_at, sent_at, expires_at) VALUES (avouch.tenant(), ` + other + `, '\x01', repeat('c', 26), '{member}', 'person:x', now(), now(), now())`,
		`INSERT INTO avouch.link (tenant_id, link_id, digest, purpose, subject, data, created_at, expires_at) VALUES (avouch.tenant(), ` + other + `, sha256('l'), 'join', ` + other + `, '\x01', now(), now())`,
		`INSERT INTO avouch.pending_change (tenant_id, change_id, body, asked_by, asked_at, due_at) VALUES (avouch.tenant(), ` + other + `, '{"a":1}', 'person:x', now(), now())`,
		`INSERT INTO avouch.offboarding (tenant_id, person_id, removed_by, removed_at, request_id, ended) VALUES (avouch.tenant(), ` + bob + `, 'person:x', now(), ` + other + `, '{"sessions":1}')`,
		`INSERT INTO avouch.password (tenant_id, person_id, hash, changed_at) VALUES (avouch.tenant(), ` + ada + `, '\x01', now())`,
		`INSERT INTO avouch.factor (tenant_id, factor_id, person_id, kind, secret, credential, counter, created_at, confirmed_at) VALUES (avouch.tenant(), ` + other + `, ` + ada + `, 'passkey', '\x01', sha256(avouch.tenant()::text::bytea), 7, now(), now())`,
		`INSERT INTO avouch.recovery_code (tenant_id, person_id, digest, used_at) VALUES (avouch.tenant(), ` + ada + `, sha256('r'), now())`,
		`INSERT INTO avouch.attempt (tenant_id, digest, person_id, purpose, proofs, state, created_at, expires_at) VALUES (avouch.tenant(), sha256('a'), ` + ada + `, 'sign-in', '{password}', '\x01', now(), now())`,
		`INSERT INTO avouch.session (tenant_id, session_id, person_id, kind, digest, description, methods, created_at, proved_at, held, expires_at, idle_seconds, mac) VALUES (avouch.tenant(), ` + other + `, ` + ada + `, 'browser', sha256(avouch.tenant()::text::bytea), '\x01', '{password,totp}', now(), now(), '{}', now(), 60, sha256('x'))`,
		`INSERT INTO avouch.session_use (tenant_id, session_id, seen_at) SELECT tenant_id, session_id, now() FROM avouch.session`,
		`INSERT INTO avouch.device (tenant_id, person_id, digest, created_at, expires_at) VALUES (avouch.tenant(), ` + ada + `, sha256('d'), now(), now())`,
		`INSERT INTO avouch.spent (tenant_id, kind, value, expires_at) VALUES (avouch.tenant(), 'x', sha256('s'), now())`,
		`INSERT INTO avouch.connection (tenant_id, connection_id, kind, name, config, enabled, configured_by, created_at) VALUES (avouch.tenant(), ` + group + `, 'oidc', 'Acme', '\x01', true, 'person:x', now())`,
		`INSERT INTO avouch.domain (tenant_id, domain, token, connection_id, required, created_at, proved_at) VALUES (avouch.tenant(), 'acme.example', 'x', ` + group + `, true, now(), now())`,
		`INSERT INTO avouch.identity (tenant_id, connection_id, subject, person_id, created_at) VALUES (avouch.tenant(), ` + group + `, repeat('s', 26), ` + ada + `, now())`,
		`INSERT INTO avouch.break_glass (tenant_id, use_id, person_id, capabilities, reason, life_seconds, approval, asked_at, due_at) VALUES (avouch.tenant(), ` + other + `, ` + ada + `, '{keys:write}', '\x01', 60, 'person', now(), now())`,
		`INSERT INTO avouch.glass_hook (tenant_id, secret, set_by, set_at) VALUES (avouch.tenant(), '\x01', 'person:x', now())`,
		`INSERT INTO avouch.glass_review (tenant_id, week, uses, text, signed_by, signed_at) VALUES (avouch.tenant(), '2026-11-16', 1, '\x01', 'person:x', now())`,
	})
}

func vaultRows(t *testing.T, db *DB, c Caller) {
	t.Helper()
	const item, other = `'0190b6f2-0000-7000-8000-0000000000e1'`, `gen_random_uuid()`
	inChange(t, db, c, []string{
		`INSERT INTO avouch.vault_item (tenant_id, item_id, kind, about, secret, counter, taken, policy, listed, creator_kind, creator, created_at, mark) VALUES (avouch.tenant(), ` + item + `, 'hotp', '\x01', '\x02', 3, '{1}', '{"approval":true}', true, 'key', 'k', now(), '\x03')`,
		`UPDATE avouch.factor SET mark = '\x03'`,
		`INSERT INTO avouch.vault_grant (tenant_id, grant_id, item_id, kind, grantee, level, granted_by, granted_at, expires_at) VALUES (avouch.tenant(), ` + other + `, ` + item + `, 'agent', 'a', 'code', 'key:k', now(), now())`,
		`INSERT INTO avouch.vault_request (tenant_id, request_id, item_id, kind, asker, level, reason, seconds, granted, asked_at, due_at) VALUES (avouch.tenant(), ` + other + `, ` + item + `, 'agent', 'a', 'code', '\x01', 60, true, now(), now())`,
		`INSERT INTO avouch.vault_fetch (tenant_id, item_id, digest, fetched_by, place, version, fetched_at) VALUES (avouch.tenant(), ` + item + `, sha256('f'), 'agent:a', 3, 1, now())`,
	})
	if _, err := db.Record(t.Context(), c, audit.Event{Type: "vault.code_given", Target: audit.Target{Kind: VaultItem, ID: "0190b6f2-0000-7000-8000-0000000000e1"}}); err != nil {
		t.Fatal(err)
	}
}

func rotationRows(t *testing.T, db *DB, c Caller) {
	t.Helper()
	inChange(t, db, c, []string{
		`INSERT INTO avouch.key_rotation (tenant_id, rotation_id, wrap, subjects, asked_by, begun_at, made_at, pass_at, place, after, found, failed, rows, keys, due_at, worker, leased_until)
			VALUES (avouch.tenant(), gen_random_uuid(), 2, 2, 'system:rotation', now(), now(), now(), 'idempotency.answer', '{key:1,once}', 3, 1, 2, 4, now(), gen_random_uuid(), now())`,
	})
}

func byokRows(t *testing.T, db *DB, c Caller) {
	t.Helper()
	inChange(t, db, c, []string{
		`INSERT INTO avouch.own_kms (tenant_id, setting_id, kind, key_id, settings, state, set_by, set_at) VALUES (avouch.tenant(), gen_random_uuid(), 'transit', 'transit/transit/avouch', '\x01', 'current', 'person:x', now())`,
	})
}

func deletionRows(t *testing.T, db *DB, c Caller) {
	t.Helper()
	inChange(t, db, c, []string{`UPDATE avouch.person SET owner_until = now(), owner_since = now() WHERE person_id = (SELECT min(person_id::text)::uuid FROM avouch.person)`})
}

func issuerRows(t *testing.T, db *DB, c Caller) {
	t.Helper()
	inChange(t, db, c, []string{`UPDATE avouch.agent SET registered_by = 'person:x'`, `UPDATE avouch.agent_token SET issued_by = 'key:k'`})
}

func inChange(t *testing.T, db *DB, c Caller, statements []string) {
	t.Helper()
	err := db.Change(t.Context(), c, func(tx *Tx) (audit.Event, error) {
		for _, sql := range statements {
			if n, err := tx.Exec(t.Context(), sql); err != nil || n != 1 {
				return audit.Event{}, fmt.Errorf("%s: %d rows, %w", sql, n, err)
			}
		}
		return audit.Event{Type: "test.rows"}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// migratedTo is an empty database as an older release left it.
func migratedTo(t *testing.T, version int32) *pgtest.DB {
	t.Helper()
	return pgtest.New(t, pgtest.Template{Name: fmt.Sprintf("avouch-%d", version), Hash: SchemaHash(), Build: func(ctx context.Context, adminURL string) error {
		return migrateTo(ctx, adminURL, version)
	}})
}

// openOlder opens the door to a schema that is older than this release wants, as the older release's own door would.
func openOlder(t *testing.T, pg *pgtest.DB, version int32) *DB {
	t.Helper()
	admin := connect(t, pg.AdminURL)
	known, err := knownVersion()
	if err != nil {
		t.Fatal(err)
	}
	say := func(v int32) {
		if _, err := admin.Exec(t.Context(), `UPDATE avouch.schema_version SET version = $1`, v); err != nil {
			t.Fatal(err)
		}
	}
	say(known)
	db := open(t, pg.URL)
	say(version)
	switch {
	case version < 3:
		db.appendSQL = appendSQLBefore3
	case version < 5:
		db.appendSQL = appendSQLBefore5
	}
	return db
}

// appendSQLBefore3 is how servers append that know no amounts and no windows.
const appendSQLBefore3 = `
SELECT echo, kind, place, a, b, n FROM avouch.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $13, $14, $16, $17, $18::bigint[]::integer[], $20)
WHERE $11::uuid[] IS NOT NULL AND $12::uuid[] IS NOT NULL AND $15::bigint[] IS NOT NULL AND $19::bigint[] IS NOT NULL`

// appendSQLBefore5 is how servers append that know of no look-ups.
const appendSQLBefore5 = `
SELECT echo, kind, place, a, b, n FROM avouch.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $13, $14, $15, $16, $17, $18, $19, $20)
WHERE $11::uuid[] IS NOT NULL AND $12::uuid[] IS NOT NULL`

// tables is every row of every table of the schema, past all nets.
func tables(t *testing.T, pg *pgtest.DB) map[string][]map[string]any {
	t.Helper()
	admin := connect(t, pg.AdminURL)
	names, err := column(t.Context(), admin, `SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'avouch' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname NOT IN ('schema_version', 'schema_serves') ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]map[string]any{}
	for _, name := range names {
		rows, err := column(t.Context(), admin, `SELECT to_jsonb(x)::text FROM avouch.`+name+` x ORDER BY 1`)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = []map[string]any{}
		for _, text := range rows {
			var row map[string]any
			if err := json.Unmarshal([]byte(text), &row); err != nil {
				t.Fatal(err)
			}
			all[name] = append(all[name], row)
		}
	}
	return all
}

// preserved says that each row of before is there after with all that it had; what a migration adds to a row is its own.
func preserved(t *testing.T, before, after map[string][]map[string]any) {
	t.Helper()
	for name, rows := range before {
		if len(after[name]) != len(rows) {
			t.Errorf("%s had %d rows and has %d", name, len(rows), len(after[name]))
		}
	rows:
		for _, row := range rows {
			for _, now := range after[name] {
				if contains(now, row) {
					continue rows
				}
			}
			t.Errorf("%s has lost, or changed: %v", name, row)
		}
	}
}

func contains(row, part map[string]any) bool {
	for column, value := range part {
		if now, ok := row[column]; !ok || !reflect.DeepEqual(now, value) {
			return false
		}
	}
	return true
}

func TestUpgradeFromEveryOlderSchema(t *testing.T) {
	t.Parallel()
	known, err := knownVersion()
	if err != nil {
		t.Fatal(err)
	}
	if int(known) != len(rowsOf) {
		t.Fatalf("%d migrations, and rows for the tables of %d: say in rowsOf what those of the new one hold", known, len(rowsOf))
	}
	for version := int32(1); version <= known; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			upgrade(t, version)
		})
	}
}

func upgrade(t *testing.T, version int32) {
	pg := migratedTo(t, version)
	old := openOlder(t, pg, version)
	callers := []Caller{newTenant(t, old, "A"), newTenant(t, old, "B")}
	for _, c := range callers {
		for _, rows := range rowsOf[:version] {
			rows(t, old, c)
		}
	}
	before, logs := tables(t, pg), map[TenantID][]audit.Entry{}
	for name, rows := range before {
		if len(rows) < len(callers) {
			t.Errorf("%s holds nothing that a migration could lose: say in rowsOf what it holds", name)
		}
	}
	for _, c := range callers {
		logs[c.Tenant()] = logged(t, old, c)
	}
	if err := Migrate(t.Context(), pg.AdminURL); err != nil {
		t.Fatal(err)
	}
	preserved(t, before, tables(t, pg))
	db := open(t, pg.URL) // which examines the role's rights
	sameSchema(t, "the schema is not that of a new installation", pgtest.New(t, template).AdminURL, pg.AdminURL)
	found, err := db.Catalogue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if exceptions[f] == "" && !isLogPartition(f) {
			t.Errorf("after the upgrade: %s", f)
		}
	}
	for i, c := range callers {
		for _, server := range []*DB{old, db, old} { // servers of both releases run together
			if err := rename(t.Context(), server, c, fmt.Sprint("after", i)); err != nil {
				t.Fatal(err)
			}
			if _, err := server.Record(t.Context(), c, audit.Event{Type: "test.after"}); err != nil {
				t.Fatal(err)
			}
		}
		was := logs[c.Tenant()]
		if now := logged(t, db, c); len(now) != len(was)+6 || !reflect.DeepEqual(now[:len(was)], was) {
			t.Errorf("the log of %s had %d entries and has %d, or others", c.Tenant(), len(was), len(now))
		}
	}
}

func TestPreservedSeesLosses(t *testing.T) {
	t.Parallel()
	row := map[string]any{"a": "1", "b": []any{"x"}}
	for what, now := range map[string]map[string]any{"another value": {"a": "2", "b": []any{"x"}}, "a column is gone": {"a": "1"}, "null": {"a": "1", "b": nil}} {
		if contains(now, row) {
			t.Errorf("not seen: %s", what)
		}
	}
	if !contains(map[string]any{"a": "1", "b": []any{"x"}, "c": "new"}, row) {
		t.Error("a new column is taken for a loss")
	}
}

// A server goes on while its schema is migrated: what it acknowledges is in the log.
func TestMigrateUnderLoad(t *testing.T) {
	t.Parallel()
	pg := migratedTo(t, 1)
	db := openOlder(t, pg, 1)
	c := newTenant(t, db, "A")
	told, h := newAcks(), head(t, db, c)
	var stop atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		parallel(8, func(int) {
			for !stop.Load() {
				d := draft(t, db, h, "load")
				pos, err := db.Append(t.Context(), []Draft{d})
				told.add(d, pos, err)
				if err != nil && !problem.Is(err, problem.Unavailable) {
					t.Error(err)
				}
			}
		})
	}()
	for range 3 {
		if err := Migrate(t.Context(), pg.AdminURL); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	<-ended
	told.check(t, logged(t, db, c))
	if len(told.yes) == 0 {
		t.Error("nothing was acknowledged: the test does not test")
	}
	t.Logf("%d acknowledged, %d refused", len(told.yes), len(told.no))
}

func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	want := pgtest.New(t, template)
	for round := range 3 {
		pg := pgtest.New(t, pgtest.Template{Name: "empty", Hash: "1", Build: func(context.Context, string) error { return nil }})
		parallel(4, func(int) {
			if err := Migrate(t.Context(), pg.AdminURL); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		})
		sameSchema(t, fmt.Sprintf("round %d made another schema", round), want.AdminURL, pg.AdminURL)
	}
}

func TestRefusesOtherSchemas(t *testing.T) {
	t.Parallel()
	known, err := knownVersion()
	if err != nil {
		t.Fatal(err)
	}
	try := func(pg *pgtest.DB) error {
		db, err := Open(t.Context(), Config{URL: pg.URL, Sealer: plainSealer{}, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			db.Close()
		}
		return err
	}
	says := func(what string, err error, words ...string) {
		t.Helper()
		if !errors.Is(err, ErrSchema) {
			t.Errorf("%s: %v", what, err)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v: does not say %q", what, err, w)
			}
		}
	}
	for version := int32(1); version < known; version++ {
		says("older", try(migratedTo(t, version)), fmt.Sprintf("at version %d", version), fmt.Sprintf("needs %d", known), "avouch migrate")
	}
	pg := pgtest.New(t, template)
	admin := connect(t, pg.AdminURL)
	set := func(version, oldest int32) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), fmt.Sprintf(`UPDATE avouch.schema_version SET version = %d; UPDATE avouch.schema_serves SET oldest = %d`, version, oldest)); err != nil {
			t.Fatal(err)
		}
	}
	set(known+1, known)
	if err := try(pg); err != nil {
		t.Errorf("the next release's schema, which still serves this one: %v", err)
	}
	says("migrating back", Migrate(t.Context(), pg.AdminURL), fmt.Sprintf("at version %d", known+1), fmt.Sprintf("knows %d", known))
	set(known+2, known+1)
	says("newer", try(pg), fmt.Sprintf("at version %d", known+2), "too old", "newer release")
	set(known, known+1)
	if err := Migrate(t.Context(), pg.AdminURL); err != nil {
		t.Fatal(err)
	}
	says("what is gone stays gone", try(pg), "too old")
}

func TestOldestIsKnown(t *testing.T) {
	t.Parallel()
	if known, err := knownVersion(); err != nil || migrations.Oldest > known {
		t.Errorf("migrations.Oldest is %d of %d: this release would refuse its own schema (%v)", migrations.Oldest, known, err)
	}
}

// A migration that waits for a lock does so for seconds, not for ever: what it blocks meanwhile is every server.
func TestMigrationsDoNotWaitLong(t *testing.T) {
	t.Parallel()
	names, err := migrations.Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range names {
		text, err := migrations.Files.ReadFile(n.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "SET LOCAL lock_timeout = '5s';") {
			t.Errorf("%s does not limit how long it waits for locks", n.Name())
		}
		if !strings.HasPrefix(n.Name(), fmt.Sprintf("%03d_", i+1)) {
			t.Errorf("%s is not migration %d", n.Name(), i+1)
		}
	}
	pg := migratedTo(t, 1)
	admin := connect(t, pg.AdminURL)
	err = pgx.BeginFunc(t.Context(), admin, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `LOCK TABLE avouch.organisation IN ACCESS EXCLUSIVE MODE`); err != nil {
			return err
		}
		began := time.Now()
		if err := Migrate(t.Context(), pg.AdminURL); err == nil || time.Since(began) > 20*time.Second {
			t.Errorf("a migration that met a lock: %v after %v", err, time.Since(began))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := Migrate(t.Context(), pg.AdminURL); err != nil {
		t.Errorf("tried again: %v", err)
	}
}
