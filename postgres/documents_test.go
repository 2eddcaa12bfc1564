package postgres

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/devpg"
)

// block is a piece of a document that somebody may run, with the remark that stands over it.
type block struct{ remark, kind, text string }

func blocks(t *testing.T, name string) []block {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	for _, m := range regexp.MustCompile("(?ms)(?:^ *<!-- ([^\n]*) -->\n)?^ *```(sql|sh)\n(.*?)^ *```$").FindAllStringSubmatch(string(b), -1) {
		all = append(all, block{m[1], m[2], m[3]})
	}
	return all
}

// reader runs a document from its first block to its last, as somebody who tries it.
type reader struct {
	*db
	users map[string]string // a name in the document, a user's id
	key   string
}

// hook is the function that PostgREST, which connects as authenticator, has look at requests.
func (r *reader) hook() string {
	r.t.Helper()
	got, err := answer(r.t.Context(), r.pool(), "SELECT coalesce(current_setting('pgrst.db_pre_request', true), '')")
	if err != nil || got == "" {
		r.t.Fatalf("no function looks at requests: %q, %v", got, err)
	}
	return got
}

func (r *reader) run(b block) {
	r.t.Helper()
	who, rest, _ := strings.Cut(b.remark, " ")
	switch {
	case b.kind == "sh":
		for line := range strings.Lines(b.text) {
			r.shell(strings.TrimSpace(line))
		}
	case who == "session":
		q := session(r.users[rest])
		q.hook = r.hook()
		got, err := r.send(r.pool(), q, b.text)
		if err != nil || !strings.HasPrefix(got, "avd_live_") {
			r.t.Fatalf("%s\n%q, %v", b.text, got, err)
		}
		r.key, _, _ = strings.Cut(got, "|")
	case who == "key:":
		q := withKey(r.key)
		q.hook = r.hook()
		if sqlstate, refused := strings.CutPrefix(rest, "refused "); refused {
			r.refuses(q, b.text, sqlstate)
			return
		}
		r.gets(q, b.text, rest)
		if !r.t.Failed() {
			r.gets(q.reading(), b.text, rest)
		}
	case b.remark == "":
		text := strings.ReplaceAll(b.text, "IN DATABASE app ", "IN DATABASE "+r.name+" ")
		if err := r.admin.PgConn().Exec(r.t.Context(), text).Close(); err != nil {
			r.t.Fatalf("%s\n%v", b.text, err)
		}
	default:
		r.t.Fatalf("what is %q?", b.remark)
	}
}

// shell runs the commands of ours; the test of the command line holds that they are these functions.
func (r *reader) shell(line string) {
	r.t.Helper()
	dsn := r.url(devpg.Superuser)
	var err error
	switch line {
	case "avouch pg install":
		err = Install(r.t.Context(), dsn, Options{})
	case "avouch pg install --keyhippo":
		err = Install(r.t.Context(), dsn, Options{KeyHippo: true})
	case "avouch pg check":
		var report Report
		if report, err = Check(r.t.Context(), dsn, Known{}); report.Fault != nil {
			r.t.Errorf("%+v", report)
		}
	case "avouch pg uninstall --drop-log":
		err = Uninstall(r.t.Context(), dsn, true, nil)
	default:
		if strings.HasPrefix(line, "avouch ") {
			r.t.Errorf("%s was not run", line)
		}
	}
	if err != nil {
		r.t.Fatalf("%s: %v", line, err)
	}
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s *server) {
		private := s.private(t)
		for name, want := range map[string]int{"postgres.md": 22, "moving-from-keyhippo.md": 7} {
			r := reader{db: private.database(t, ""), users: map[string]string{"ann": "ann"}}
			if name == "moving-from-keyhippo.md" {
				r.users["ann"] = "10000000-0000-4000-8000-000000000001"
				r.exec(supabase + `ALTER ROLE authenticator SET pgrst.db_pre_request = 'keyhippo.check_request'; CREATE TABLE public.note (owner uuid, body text); ALTER TABLE note ENABLE ROW LEVEL SECURITY; GRANT SELECT ON note TO anon, authenticated;
					INSERT INTO auth.users (id) VALUES ('` + r.users["ann"] + `'); INSERT INTO note VALUES ('` + r.users["ann"] + `', 'buy milk'), (gen_random_uuid(), 'call home')`)
			}
			all := blocks(t, name)
			if len(all) < want {
				t.Errorf("only %d blocks in %s", len(all), name)
			}
			for _, b := range all {
				r.run(b)
			}
			const everywhere = "SELECT count(*) FROM pg_db_role_setting WHERE setrole = 'authenticator'::regrole AND setdatabase = 0"
			if name == "moving-from-keyhippo.md" && (r.hook() != "keyhippo.check_request" || r.ask(everywhere) != "0") {
				t.Errorf("after it all, %s looks at requests, and %s settings are for all databases", r.hook(), r.ask(everywhere))
			}
		}
	})
}

// TestUninstallTakesTheHook: whatever way PostgREST was told to call what is gone, it is told no more; and what else it calls,
// or another database needs, stays.
func TestUninstallTakesTheHook(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, s *server) {
		private := s.private(t)
		var said []string
		uninstall := func(d *db) {
			t.Helper()
			if err := Uninstall(t.Context(), d.url(devpg.Superuser), true, func(n string) { said = append(said, n) }); err != nil {
				t.Fatal(err)
			}
		}
		install := func(hooks string) *db {
			t.Helper()
			d := private.database(t, "")
			if err := Install(t.Context(), d.url(devpg.Superuser), Options{KeyHippo: true}); err != nil {
				t.Fatal(err)
			}
			d.exec(strings.ReplaceAll(hooks, "HERE", "IN DATABASE "+d.name))
			return d
		}
		hook := func(d *db, want string) {
			t.Helper()
			got, err := answer(t.Context(), d.pool(), "SELECT coalesce(current_setting('pgrst.db_pre_request', true), '')")
			if err != nil || got != want {
				t.Errorf("%q looks at requests, %v; want %q", got, err, want)
			}
		}
		for hooks, left := range map[string]string{
			"": "",
			"ALTER ROLE authenticator HERE SET pgrst.db_pre_request = 'keyhippo.check_request'; ALTER ROLE authenticator SET pgrst.db_pre_request = 'avouch_keys.pre_request'": "",
			`ALTER ROLE authenticator HERE SET pgrst.db_pre_request = '"keyhippo"."check_request"'`:                                                                            "",
			"ALTER ROLE authenticator HERE SET pgrst.db_pre_request = 'mine.keyhippo'":                                                                                         "mine.keyhippo",
		} {
			d := install(hooks)
			uninstall(d)
			hook(d, left)
		}
		one, other := install("ALTER ROLE authenticator HERE RESET pgrst.db_pre_request"), install("ALTER ROLE authenticator HERE RESET pgrst.db_pre_request")
		one.exec("ALTER ROLE authenticator SET pgrst.db_pre_request = 'keyhippo.check_request'")
		uninstall(one)
		hook(other, "keyhippo.check_request")
		if !strings.Contains(strings.Join(said, "\n"), "another one has avouch_keys") {
			t.Errorf("it is said: %q", said)
		}
		uninstall(other)
		hook(other, "")
	})
}
