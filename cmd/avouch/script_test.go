package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/mod/sumdb/note"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// TestScripts runs the program as people do: against a server that speaks the documented wire from a table, and on
// exports that package audit has written.
func TestScripts(t *testing.T) {
	t.Parallel()
	s := newStub(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true, Cmds: commands(),
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			env.Setenv("AVOUCH_URL", s.url)
			env.Setenv("TAKEN", strings.TrimPrefix(s.url, "http://"))
			env.Setenv("AVOUCH_API_KEY", stubKey)
			env.Setenv("AGENT_TOKEN", "tok-allowed")
			return writeExports(env.WorkDir)
		},
	})
}

func commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits": exits, "mode": mode, "spoil": spoil, "pack": pack, "save": save, "field": field, "until": until, "raise": raise, "inbox": inbox,
		"joins": joins, "signs-in": signsInAs, "asks": asks, "gets-token": getsToken, "vault": vaultKeeps, "echoes": echoes,
	}
}

// exits CODE COMMAND...: the command ends with exactly this code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var e *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &e) {
		code = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d; want %d", code, want)
	}
}

// mode FILE OCTAL: the file has exactly these permissions.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has mode %s", args[0], got)
	}
}

// spoil FILE OFFSET: one bit of the byte at the offset (from the end if negative) is turned.
func spoil(ts *testscript.TestScript, _ bool, args []string) {
	b, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// pack ARCHIVE DIR [EXTRA]: a .tar.gz of a directory, and of one more file with a name of its own.
func pack(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	zipped := gzip.NewWriter(f)
	out := tar.NewWriter(zipped)
	ts.Check(out.AddFS(os.DirFS(ts.MkAbs(args[1]))))
	if len(args) > 2 {
		ts.Check(out.WriteHeader(&tar.Header{Name: args[2], Typeflag: tar.TypeReg, Mode: 0o600}))
	}
	ts.Check(out.Close())
	ts.Check(zipped.Close())
}

// save NAME: what was printed last is kept in a variable.
func save(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// field NAME FIELD: a field of the object that was printed last is kept in a variable.
func field(ts *testscript.TestScript, _ bool, args []string) {
	var object map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &object))
	value, ok := object[args[1]].(string)
	if !ok {
		ts.Fatalf("there is no text %s", args[1])
	}
	ts.Setenv(args[0], value)
}

// until FILE TEXT: a program in the background has written the text, at the latest in half a minute.
func until(ts *testscript.TestScript, _ bool, args []string) {
	for range 300 {
		if b, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && strings.Contains(string(b), args[1]) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("%s does not say %s", args[0], args[1])
}

// operating is what an operator's command works on.
func operating(ts *testscript.TestScript) *server.Server {
	s, err := server.Operate(context.Background(), server.Config{
		DatabaseURL: ts.Getenv("DATABASE_URL"), PlatformKeyFile: ts.Getenv("PLATFORM_KEY_FILE"), KeyStore: ts.Getenv("KEY_STORE"), PublicURL: ts.Getenv("AVOUCH_URL"),
	}, slog.New(slog.DiscardHandler))
	ts.Check(err)
	return s
}

// raise KIND SUBJECT DETAIL: an incident of the installation is open.
func raise(ts *testscript.TestScript, _ bool, args []string) {
	s := operating(ts)
	defer s.Close()
	_, err := s.Incident.Raise(context.Background(), tenantdb.System(tenantdb.Platform, "test"), args[0], args[1], args[2])
	ts.Check(err)
}

// spoils TENANT: the sealed contact of an organisation is damaged.
func spoils(ts *testscript.TestScript, _ bool, args []string) {
	s := operating(ts)
	defer s.Close()
	t, err := tenantdb.ParseTenantID(args[0])
	ts.Check(err)
	ctx := context.Background()
	ts.Check(s.DB.Change(ctx, tenantdb.System(t, "test"), func(tx *tenantdb.Tx) (audit.Event, error) {
		_, err := tx.Exec(ctx, `UPDATE avouch.organisation SET contact = set_byte(contact, 30, get_byte(contact, 30) # 1) WHERE tenant_id = $1`, t)
		return audit.Event{Type: "test.spoilt"}, err
	}))
}

// inbox TEXT: the page of caught mail shows the text, at the latest in half a minute.
func inbox(ts *testscript.TestScript, _ bool, args []string) {
	for range 300 {
		r, err := http.Get(ts.Getenv("AVOUCH_URL") + "/dev/inbox")
		ts.Check(err)
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		ts.Check(err)
		if strings.Contains(string(b), args[0]) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("no mail shows %s", args[0])
}

const exportSize = 300

// writeExports makes log/, an export of 300 entries, and earlier, the checkpoint of its first 200.
func writeExports(dir string) error {
	log := audit.NewLogID()
	origin := audit.Origin("avouch.example", log)
	private, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		return err
	}
	seal := func(size int64, root [32]byte) ([]byte, string, error) {
		signed, err := audit.Checkpoint{Origin: origin, Size: size, Root: root}.Sign(signer)
		return signed, vkey, err
	}
	records, err := makeRecords(log)
	if err != nil {
		return err
	}
	for name, n := range map[string]int{"log": exportSize, "short": 200} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
		root, err := os.OpenRoot(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		_, err = audit.WriteExport(audit.Into(root), all(records[:n]), seal)
		if err := errors.Join(err, root.Close()); err != nil {
			return err
		}
	}
	return os.Rename(filepath.Join(dir, "short", "checkpoint"), filepath.Join(dir, "earlier"))
}

func makeRecords(log audit.LogID) ([]audit.Record, error) {
	var records []audit.Record
	prev := audit.Genesis
	for i := range exportSize {
		body, err := audit.Entry{
			Version: audit.Version, Log: log, ID: audit.NewEntryID(), Time: time.Unix(1795000000+int64(i), 0), Type: "agent.verified", Decision: "ALLOWED",
			Actor: audit.Actor{Kind: audit.ActorKey, ID: "k1"}, How: "api-key", Outcome: audit.Done, Target: audit.Target{Kind: "agent", ID: "a1"},
		}.Encode()
		if err != nil {
			return nil, err
		}
		r := audit.Record{Seq: audit.Seq(i), Prev: prev, Entry: body, Leaf: audit.Leaf(body)}
		records, prev = append(records, r), r.Link()
	}
	return records, nil
}

func all(records []audit.Record) iter.Seq2[audit.Record, error] {
	return func(yield func(audit.Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}
