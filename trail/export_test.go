package trail

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/tenantdb"
)

// export writes a tenant's log into a new directory.
func (s *scene) export(t testing.TB, tenant tenantdb.TenantID, o ExportOptions) (string, audit.Checkpoint, error) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	c, err := s.room.Export(t.Context(), tenantdb.System(tenant, "test"), audit.Into(root), o)
	return dir, c, err
}

// python runs the checker that was written from the standards, without our code.
func python(t testing.TB, dir string) {
	t.Helper()
	bin, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no python3, and CI is set")
		}
		t.Skip("skipped: no python3")
	}
	if out, err := exec.CommandContext(t.Context(), bin, "../audit/testdata/check.py", "export", dir).CombinedOutput(); err != nil {
		t.Errorf("the Python checker: %v: %s", err, out)
	}
}

// TestExportVerifies exports logs of the sizes where tiles and chunks end, with and without private fields.
func TestExportVerifies(t *testing.T) {
	t.Parallel()
	s := enter(t)
	for _, n := range []int{1, 255, 256, 257, exportChunk - 1, exportChunk, 1100} {
		tenant := s.Tenant(t, "sized")
		s.fill(t, tenant, n-1)
		disclose := n%2 == 0
		dir, c, err := s.export(t, tenant, ExportOptions{Disclose: disclose})
		must(t, err)
		report, err := audit.CheckDir(dir, audit.Known{})
		must(t, err)
		if report.Size != int64(n)+1 || report.Root != c.Root || disclose != (report.Disclosed > 0) {
			t.Errorf("%d: %+v", n, report)
		}
		python(t, dir)
		if e := s.Last(t, tenant); e.Type != "log.read" || e.Field("what") != sawExport || int64(e.Seq)+1 != c.Size {
			t.Errorf("%d: the export of %d entries ends with %+v", n, c.Size, e)
		}
	}
}

// TestExportDisclosesWhatIsAsked looks for the words of private fields in the exported files.
func TestExportDisclosesWhatIsAsked(t *testing.T) {
	t.Parallel()
	s := enter(t)
	person := audit.NewSubjectID()
	for _, subject := range []audit.SubjectID{{}, person} {
		_, err := s.DB.Record(t.Context(), s.Caller(s.acme), audit.Event{Type: "person.joined", Subject: subject, Private: []audit.Field{{Name: "name", Value: "Ada of " + subject.String()}}})
		must(t, err)
	}
	must(t, s.Ring.DestroySubject(t.Context(), s.acme, person))
	for _, disclose := range []bool{false, true} {
		dir, _, err := s.export(t, s.acme, ExportOptions{Disclose: disclose})
		must(t, err)
		records, err := os.ReadFile(filepath.Join(dir, "records.ndjson"))
		must(t, err)
		if bytes.Contains(records, []byte("Ada of 0000")) != disclose || bytes.Contains(records, []byte("Ada of "+person.String())) {
			t.Errorf("disclose %v:\n%s", disclose, records)
		}
		page, err := s.room.scan(t.Context(), s.Caller(s.acme), Query{Limit: 1})
		must(t, err)
		if e := page.Entries[0]; e.Public["disclosed"] != fmt.Sprint(disclose) {
			t.Errorf("recorded as %+v", e)
		}
	}
}

// TestExportBesideAppends exports while two servers append: what comes out is the log up to one instant.
func TestExportBesideAppends(t *testing.T) {
	t.Parallel()
	s := enter(t)
	s.fill(t, s.acme, 3000)
	second := s.Another(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for _, db := range []*tenantdb.DB{s.DB, second.DB} {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := db.Record(ctx, s.Caller(s.acme), audit.Event{Type: "test.happened"}); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var earlier []byte
	for range 3 {
		dir, _, err := s.export(t, s.acme, ExportOptions{})
		must(t, err)
		report, err := audit.CheckDir(dir, audit.Known{})
		must(t, err)
		if report.Size < 3001 {
			t.Errorf("%d entries", report.Size)
		}
		signed, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
		must(t, err)
		if bytes.Equal(signed, earlier) {
			t.Error("the log did not grow beside the exports")
		}
		earlier = signed
	}
	stop()
	wg.Wait()
}

// TestExportIsSigned gives the room a key: an export is signed by it, and a later one is checked against an earlier.
func TestExportIsSigned(t *testing.T) {
	t.Parallel()
	keys := map[string][2]string{}
	s := enter(t, func(c *Config) {
		c.Sign = func(_ context.Context, origin string) (note.Signer, string, error) {
			if keys[origin] == ([2]string{}) {
				private, vkey, err := note.GenerateKey(nil, origin)
				if err != nil {
					return nil, "", err
				}
				keys[origin] = [2]string{private, vkey}
			}
			signer, err := note.NewSigner(keys[origin][0])
			return signer, keys[origin][1], err
		}
	})
	s.fill(t, s.acme, 20)
	first, c, err := s.export(t, s.acme, ExportOptions{})
	must(t, err)
	key := keys[c.Origin][1]
	signed, err := os.ReadFile(filepath.Join(first, "checkpoint"))
	must(t, err)
	s.fill(t, s.acme, 20)
	second, _, err := s.export(t, s.acme, ExportOptions{})
	must(t, err)
	report, err := audit.CheckDir(second, audit.Known{Key: key, Earlier: signed})
	if err != nil || !report.KeyKnown || !report.EarlierHeld {
		t.Errorf("%+v, %v", report, err)
	}
	throwaways := enter(t)
	other, _, err := throwaways.export(t, throwaways.acme, ExportOptions{})
	must(t, err)
	if _, err := audit.CheckDir(other, audit.Known{Key: key}); err == nil {
		t.Error("an export under another key passes for ours")
	}
	again, _, err := throwaways.export(t, throwaways.acme, ExportOptions{})
	must(t, err)
	read := func(dir, name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		return b
	}
	if bytes.Equal(read(other, "log.vkey"), read(again, "log.vkey")) {
		t.Error("two exports are signed by one key, and each is to have one made for it")
	}
	if !bytes.HasPrefix(read(again, "records.ndjson"), read(other, "records.ndjson")) {
		t.Error("what an older export holds is not the beginning of a newer one")
	}
}

// TestTamperedLogIsNotExported lets the export meet each tampering that shows without keys: no checkpoint is written.
func TestTamperedLogIsNotExported(t *testing.T) {
	t.Parallel()
	s := enter(t)
	for _, how := range []tampering{
		{name: "body", sql: []string{flip("body", 5)}},
		{name: "leaf", sql: []string{flip("leaf", 20)}},
		{name: "deleted", sql: []string{"DELETE FROM avouch.audit_entry WHERE tenant_id = $1 AND seq = 5"}},
		{name: "twice", sql: []string{"INSERT INTO avouch.audit_entry SELECT tenant_id, seq, written_at + interval '1 s', entry_id, request_id, body, leaf, prev, sealed FROM avouch.audit_entry WHERE tenant_id = $1 AND seq = 20"}},
		{name: "rewritten end", sql: []string{flip("body", 20), `UPDATE avouch.audit_entry SET leaf = sha256('\x00'::bytea || body) WHERE tenant_id = $1 AND seq = 20`}},
		{name: "tail", sql: []string{"DELETE FROM avouch.audit_entry WHERE tenant_id = $1 AND seq >= 15"}},
		{name: "head", sql: []string{"UPDATE avouch.audit_head SET size = 15 WHERE tenant_id = $1"}},
		{name: "log", sql: []string{"UPDATE avouch.audit_head SET log_id = gen_random_uuid() WHERE tenant_id = $1"}},
	} {
		t.Run(how.name, func(t *testing.T) {
			tenant := s.Tenant(t, how.name)
			s.fill(t, tenant, 20)
			s.tamper(t, how, tenant)
			dir, _, err := s.export(t, tenant, ExportOptions{})
			if err == nil {
				t.Error("it was exported")
			}
			if _, err := os.Stat(filepath.Join(dir, "checkpoint")); err == nil {
				t.Error("there is a checkpoint")
			}
			if a := s.get(t, s.Caller(tenant, "audit:read"), "/api/v1/audit/export"); a.Status != 500 {
				t.Errorf("over HTTP: %d", a.Status)
			}
		})
	}
}

// TestExportOverHTTP unpacks the archive and checks it.
func TestExportOverHTTP(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	s := enter(t, func(c *Config) { c.TempDir = temp })
	s.fill(t, s.acme, 300)
	server := httptest.NewServer(s.api(s.Caller(s.acme, "audit:read")))
	defer server.Close()
	answer, err := http.Get(server.URL + "/api/v1/audit/export")
	must(t, err)
	defer answer.Body.Close()
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "application/gzip" || answer.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", answer.StatusCode, answer.Header)
	}
	dir := t.TempDir()
	unpack(t, answer.Body, dir)
	report, err := audit.CheckDir(dir, audit.Known{})
	if err != nil || report.Size != 302 || report.Disclosed != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	python(t, dir)
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func unpack(t testing.TB, from io.Reader, dir string) {
	t.Helper()
	zipped, err := gzip.NewReader(from)
	must(t, err)
	in := tar.NewReader(zipped)
	for {
		head, err := in.Next()
		if err == io.EOF {
			return
		}
		must(t, err)
		if !filepath.IsLocal(head.Name) {
			t.Fatalf("the archive holds %q", head.Name)
		}
		file := filepath.Join(dir, head.Name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o700))
		body, err := io.ReadAll(in)
		must(t, err)
		must(t, os.WriteFile(file, body, 0o600))
	}
}

// TestExportsAreBounded holds the slots of one organisation.
func TestExportsAreBounded(t *testing.T) {
	t.Parallel()
	s := enter(t)
	release, err := s.room.exports.take(s.acme)
	must(t, err)
	a := s.get(t, s.Caller(s.acme, "audit:read"), "/api/v1/audit/export")
	if a.Status != http.StatusTooManyRequests || a.Header.Get("Retry-After") == "" || !strings.Contains(a.Raw, "at most 1") {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	release()
	if release, err = s.room.exports.take(s.acme); err != nil {
		t.Errorf("after release: %v", err)
	}
	release()
	if len(s.room.exports.taken) != 0 || s.room.exports.sum != 0 {
		t.Errorf("slots left: %+v", s.room.exports)
	}
}
