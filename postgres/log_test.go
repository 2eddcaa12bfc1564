package postgres

import (
	"encoding/hex"
	"testing"
)

// rewrite is what an owner of the database does who knows how the log is made: every entry from the first one on, and the head.
const rewrite = `
DO $$
DECLARE
  e   avouch_keys.log;
  was bytea := decode(repeat('00', 32), 'hex');
  new bytea;
BEGIN
  FOR e IN SELECT * FROM avouch_keys.log ORDER BY seq LOOP
    new := avouch_keys.log_body((SELECT id FROM avouch_keys.installation), e.seq, e.at, e.actor, e.action, e.target, e.data);
    UPDATE avouch_keys.log SET body = new, prev = was, hash = sha256(was || new) WHERE seq = e.seq;
    was := sha256(was || new);
  END LOOP;
  UPDATE avouch_keys.head SET hash = was, size = (SELECT count(*) FROM avouch_keys.log);
END $$;`

// TestTampering has the database's owner change the log in each way there is.
func TestTampering(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, d *db) {
		for _, name := range []string{"ä \"quoted\"", "two", "three"} {
			d.makeKey("u1", "'"+name+"', claims => '{\"z\": 1.50, \"a\": [null, true]}'")
		}
		d.exec("CREATE TABLE public.kept_log AS SELECT * FROM avouch_keys.log; CREATE TABLE public.kept_head AS SELECT * FROM avouch_keys.head")
		check := func(known Known) Report {
			t.Helper()
			r, err := Check(t.Context(), d.url("postgres"), known)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		good := check(Known{})
		if good.Fault != nil || good.Size < 10 || d.ask("SELECT count(*) FROM avouch_keys.check_log()") != "0" {
			t.Fatalf("an untouched log: %+v", good)
		}
		for _, sql := range []string{"UPDATE avouch_keys.log SET actor = 'x'", "DELETE FROM avouch_keys.log", "TRUNCATE avouch_keys.log", "SET session_replication_role = 'replica'; DELETE FROM avouch_keys.log"} {
			if err := d.admin.PgConn().Exec(t.Context(), sql).Close(); code(err) != "42501" {
				t.Errorf("%s: %v", sql, err)
			}
		}
		d.exec("RESET session_replication_role")
		const off = "ALTER TABLE avouch_keys.log DISABLE TRIGGER ALL; "
		for sql, reason := range map[string]string{
			"UPDATE avouch_keys.log SET actor = 'user:x' WHERE seq = 5":                        "does not say what was hashed",
			"UPDATE avouch_keys.log SET at = at + interval '1 microsecond' WHERE seq = 5":      "does not say what was hashed",
			"UPDATE avouch_keys.log SET data = data || '{\"x\": 1}' WHERE seq = 5":             "does not say what was hashed",
			"UPDATE avouch_keys.log SET target = '' WHERE seq = 5":                             "does not say what was hashed",
			"UPDATE avouch_keys.log SET action = 'key.revoked' WHERE seq = 5":                  "does not say what was hashed",
			"UPDATE avouch_keys.log SET body = body || '\\x20' WHERE seq = 5":                  "is not what was chained",
			"UPDATE avouch_keys.log SET hash = sha256('') WHERE seq = 5":                       "is not what was chained",
			"UPDATE avouch_keys.log SET prev = sha256('') WHERE seq = 5":                       "is not what was chained",
			"DELETE FROM avouch_keys.log WHERE seq = 5":                                        "is not there",
			"DELETE FROM avouch_keys.log WHERE seq >= 5":                                       "is not there",
			"UPDATE avouch_keys.log SET seq = seq + 100 WHERE seq >= 5":                        "is not there",
			"DELETE FROM avouch_keys.log WHERE seq >= 5; UPDATE avouch_keys.head SET size = 5": "is not there",
		} {
			d.exec("BEGIN; " + off + sql + "; COMMIT")
			r := check(Known{})
			if r.Fault == nil || r.Fault.Seq != 5 || r.Fault.Reason != reason {
				t.Errorf("%s: %+v", sql, r.Fault)
			}
			if got, want := d.ask("SELECT bad_seq, why FROM avouch_keys.check_log()"), "5|"+reason; got != want {
				t.Errorf("%s: check_log says %q, want %q", sql, got, want)
			}
			d.restore(t)
		}
		// All that follows is written anew: only what was known before shows it.
		var known Known
		known.Size = good.Size
		if n, err := hex.Decode(known.Hash[:], []byte(good.Hash)); n != 32 || err != nil {
			t.Fatal(err)
		}
		d.makeKey("u1", "'later'")
		if r := check(known); r.Fault != nil || r.Size != good.Size+1 {
			t.Errorf("a log that grew: %+v", r)
		}
		d.exec(off + "UPDATE avouch_keys.log SET actor = 'user:x' WHERE seq = 5;" + rewrite)
		if r := check(Known{}); r.Fault != nil {
			t.Errorf("a consistent rewrite is seen by itself: %+v: say so in the documents", r.Fault)
		}
		if r := check(known); r.Fault == nil || r.Fault.Seq != good.Size-1 || r.Fault.Reason != "is not what you knew" {
			t.Errorf("a consistent rewrite: %+v", r.Fault)
		}
		if got := d.ask("SELECT why FROM avouch_keys.check_log($1, $2)", known.Size, known.Hash[:]); got != "is not what you knew" {
			t.Errorf("a consistent rewrite: check_log says %q", got)
		}
		known.Size += 100
		if r := check(known); r.Fault == nil || r.Fault.Reason != "is not there" {
			t.Errorf("a log that shrank: %+v", r.Fault)
		}
		// A database whose check_log lies.
		d.exec("CREATE OR REPLACE FUNCTION avouch_keys.log_body(installation uuid, seq bigint, at timestamptz, actor text, action text, target text, data jsonb) RETURNS bytea LANGUAGE sql RETURN '\\x00'::bytea")
		d.exec(off + "UPDATE avouch_keys.log SET actor = 'user:y' WHERE seq = 5")
		if r := check(Known{}); r.Fault == nil || r.Fault.Seq != 5 {
			t.Errorf("what its own functions hide: %+v", r.Fault)
		}
	})
}

// restore puts the log back as it was before the owner's change.
func (d *db) restore(t *testing.T) {
	t.Helper()
	d.exec("BEGIN; ALTER TABLE avouch_keys.log DISABLE TRIGGER ALL; DELETE FROM avouch_keys.log; INSERT INTO avouch_keys.log SELECT * FROM public.kept_log; UPDATE avouch_keys.head h SET size = k.size, hash = k.hash FROM public.kept_head k; COMMIT")
}

// FuzzBody: whatever a body holds, it says what the columns do only if each of them is in it.
func FuzzBody(f *testing.F) {
	good := entry{seq: 5, micros: 7, actor: "user:ä", action: "key.created", target: "k", data: `{"a": [null, 1.50]}`}
	f.Add([]byte(`["avouch_keys/log/v1", "i", 5, 7, "user:ä", "key.created", "k", {"a": [null, 1.50]}]`), "i")
	f.Add([]byte(`["avouch_keys/log/v1", "i", 5, 7, "user:ä", "key.created", "k"]`), "i")
	f.Add([]byte(`{}`), "")
	f.Fuzz(func(t *testing.T, body []byte, installation string) {
		e := good
		e.body = body
		if !e.says(installation) {
			return
		}
		for _, other := range []entry{{seq: 6}, {seq: 5, micros: 8}, {seq: 5, micros: 7, actor: "x"}, {seq: 5, micros: 7, actor: good.actor, action: good.action, target: good.target, data: "{}"}} {
			if other.body = body; other.says(installation) {
				t.Errorf("%q says %+v too", body, other)
			}
		}
		if e.says(installation + "x") {
			t.Errorf("%q is of two installations", body)
		}
	})
}
