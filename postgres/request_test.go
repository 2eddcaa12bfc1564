package postgres

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// request is one request to PostgREST.
type request struct {
	get     bool
	role    string // of the token; anon without one
	claims  map[string]any
	headers map[string]string
	hook    string // db-pre-request; ours if empty
}

// session is a request with a user's token.
func session(user string) request {
	return request{role: "authenticated", claims: map[string]any{"sub": user, "role": "authenticated"}}
}

// withKey is a request with a key and no token.
func withKey(key string) request {
	return request{role: "anon", claims: map[string]any{"role": "anon"}, headers: map[string]string{"x-api-key": key, "host": "app.example"}}
}

func (r request) reading() request { r.get = true; return r }

// begin does what PostgREST does before its query (PostgREST 12 and 13, src/PostgREST/Query/PreQuery.hs): the transaction with
// its access mode, all settings with one statement, the pre-request function.
func (r request) begin(ctx context.Context, conn *pgx.Conn) (pgx.Tx, error) {
	mode, method := pgx.ReadWrite, "POST"
	if r.get {
		mode, method = pgx.ReadOnly, "GET"
	}
	claims, err := json.Marshal(r.claims)
	if err != nil {
		return nil, err
	}
	headers, err := json.Marshal(r.headers)
	if err != nil {
		return nil, err
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: mode})
	if err != nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, `select set_config('search_path', $1, true), set_config('role', $2, true), set_config('request.jwt.claims', $3, true),
		set_config('request.method', $4, true), set_config('request.path', '/note', true), set_config('request.headers', $5, true), set_config('request.cookies', '{}', true)`,
		`"public", "extensions"`, r.role, string(claims), method, strings.Replace(string(headers), "null", "{}", 1))
	hook := r.hook
	if hook == "" {
		hook = `"avouch_keys"."pre_request"`
	}
	if err == nil {
		_, err = tx.Exec(ctx, "select "+hook+"()")
	}
	if err != nil {
		_ = tx.Rollback(ctx) // the first error counts
		return nil, err
	}
	return tx, nil
}

// send makes a request on a connection of PostgREST's pool, and is the answer to its last statement.
func (d *db) send(conn *pgx.Conn, r request, statements ...string) (string, error) {
	ctx := d.t.Context()
	tx, err := r.begin(ctx, conn)
	if err != nil {
		return "", err
	}
	var got string
	for _, sql := range statements {
		if got, err = answer(ctx, tx, sql); err != nil {
			_ = tx.Rollback(ctx) // the first error counts
			return "", err
		}
	}
	return got, tx.Commit(ctx)
}

// gets and refuses make a request of its own and compare what comes back.
func (d *db) gets(r request, sql, want string) {
	d.t.Helper()
	if got, err := d.send(d.pool(), r, sql); err != nil || got != want {
		d.t.Errorf("%s\ngot  %q, %v\nwant %q", sql, got, err, want)
	}
}

func (d *db) refuses(r request, sql, sqlstate string) {
	d.t.Helper()
	if got, err := d.send(d.pool(), r, sql); code(err) != sqlstate {
		d.t.Errorf("%s\ngot  %q, %v\nwant SQLSTATE %s", sql, got, err, sqlstate)
	}
}

func (d *db) pool() *pgx.Conn { return d.connect("authenticator") }

// makeKey has a user's session make a key; arguments are those of create_key.
func (d *db) makeKey(user, arguments string) (key, id string) {
	d.t.Helper()
	got, err := d.send(d.pool(), session(user), "SELECT * FROM avouch_keys.create_key("+arguments+")")
	if err != nil {
		d.t.Fatal(err)
	}
	key, id, _ = strings.Cut(got, "|")
	return key, id
}

const notes = "SELECT string_agg(body, ' ' ORDER BY body) FROM note"

func TestSamePolicies(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, _ := d.makeKey("u1", "'mine'")
		for _, table := range []string{"note", "old_note"} {
			sql := strings.Replace(notes, "note", table, 1)
			d.gets(session("u1"), sql, "one")
			d.gets(withKey(key), sql, "one")
			d.gets(session("u2"), sql, "two")
			d.gets(withKey(key), "UPDATE "+table+" SET body = 'uno' RETURNING body", "uno")
			d.gets(session("u2"), "UPDATE "+table+" SET body = 'dos' RETURNING body", "dos")
			d.gets(request{role: "anon"}, sql, "NULL")
		}
		d.gets(withKey(key), "SELECT current_user, app.uid(), current_setting('request.jwt.claims')::json ->> 'role'", "authenticated|u1|authenticated")
		// A scope narrows where a policy asks for a permission, and nowhere else.
		reader, _ := d.makeKey("u1", "'r', 'reader'")
		d.gets(withKey(reader), notes, "uno")
		d.gets(withKey(reader), "SELECT body FROM guarded", "one")
		d.gets(withKey(key), "SELECT body FROM guarded", "")
		d.gets(session("u1"), "SELECT body FROM guarded", "one")
		d.gets(session("u2"), "SELECT body FROM guarded", "")
	})
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, id := d.makeKey("u1", "'mine', 'reader'")
		d.gets(withKey(key).reading(), notes, "one")
		d.gets(withKey(key).reading(), "SELECT avouch_keys.has_permission('read_notes'), avouch_keys.has_permission('write_notes')", "true|false")
		d.gets(session("u1").reading(), "SELECT name, status FROM avouch_keys.list_my_keys()", "mine|active")
		d.refuses(withKey(key).reading(), "SELECT avouch_keys.create_key('x', 'reader')", "25006")
		used := "SELECT last_used_at IS NULL FROM avouch_keys.verifier WHERE key_id = '" + id + "'"
		if got := d.ask(used); got != "true" {
			t.Errorf("last_used_at IS NULL is %s after reading requests", got)
		}
		d.gets(withKey(key), notes, "one")
		if got := d.ask(used); got != "false" {
			t.Errorf("last_used_at IS NULL is %s after a writing request", got)
		}
	})
}

func TestBadKeys(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, id := d.makeKey("u1", "'mine'")
		conn := d.pool()
		for i := range key {
			for _, c := range []byte{'A', 'b', '_', ' '} {
				if key[i] == c {
					continue
				}
				bad := key[:i] + string(c) + key[i+1:]
				if _, err := d.send(conn, withKey(bad), notes); code(err) != "PT401" {
					t.Fatalf("character %d as %q: %v", i, c, err)
				}
			}
		}
		other := forge(t, id)
		for name, bad := range map[string]string{"empty": "", "short": key[:69], "long": key + "0", "unknown": forge(t, "00000000001"), "wrong secret": other, "not ASCII": strings.Repeat("ä", 35), "id": id} {
			for _, r := range []request{withKey(bad), withKey(bad).reading()} {
				if got, err := d.send(conn, r, notes); code(err) != "PT401" {
					t.Errorf("%s: %q, %v", name, got, err)
				}
			}
			with := session("u1")
			with.headers = map[string]string{"x-api-key": bad}
			if got, err := d.send(conn, with, notes); code(err) != "PT401" {
				t.Errorf("%s beside a session: %q, %v", name, got, err)
			}
		}
		d.exec("UPDATE avouch_keys.api_key SET expires_at = now() - interval '1 second'")
		d.refuses(withKey(key), notes, "PT401")
		d.exec("UPDATE avouch_keys.api_key SET expires_at = NULL")
		d.gets(withKey(key), notes, "one")
		d.gets(session("u1"), "SELECT avouch_keys.revoke_key('"+id+"')", "true")
		d.refuses(withKey(key), notes, "PT401")
		if got := d.ask("SELECT avouch_keys.verify_key($1)", key); got != "NULL" {
			t.Errorf("a revoked key verifies as %s", got)
		}
	})
}

func TestKeyBesideSession(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		key, _ := d.makeKey("u1", "'mine', 'reader'")
		own := session("u1")
		own.headers = map[string]string{"x-api-key": key}
		own.claims["aal"] = "aal2"
		// The key counts: what it lacks, the session beside it does not give.
		d.gets(own, "SELECT avouch_keys.current_permissions(), current_setting('request.jwt.claims')::json ->> 'aal'", `["read_notes"]|NULL`)
		other := session("u2")
		other.headers = map[string]string{"x-api-key": key}
		d.refuses(other, notes, "PT401")
		service := request{role: "service_role", claims: map[string]any{"role": "service_role"}, headers: map[string]string{"x-api-key": key}}
		d.gets(service, "SELECT current_user", "authenticated")
		d.gets(service, notes, "one")
	})
}
