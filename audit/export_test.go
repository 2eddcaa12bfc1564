package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// TestExportSizes exports and checks logs around the sizes at which tiles fill up.
func TestExportSizes(t *testing.T) {
	t.Parallel()
	records := shortRecords(t, 1, 65536)
	_, vkey := testKey(t, testOrigin(1), 1)
	for _, size := range []int{0, 1, 255, 256, 257, 65535, 65536} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			export, c := testExport(t, 1, records[:size])
			report, err := Check(export.fs(), Known{Key: vkey})
			if err != nil {
				t.Fatal(err)
			}
			link := Genesis
			if size > 0 {
				link = records[size-1].Link()
			}
			if report.Size != int64(size) || report.Checked != int64(size) || report.Root != c.Root || report.Link != link ||
				report.Log != testLog(1) || !report.KeyKnown {
				t.Errorf("report = %+v", report)
			}
			files := 3 // checkpoint, log.vkey, records.ndjson
			for _, tile := range tlog.NewTiles(torchwood.TileHeight, 0, int64(size)) {
				files++
				if export[torchwood.TilePath(tile)] == nil {
					t.Errorf("no %s", torchwood.TilePath(tile))
				}
			}
			if files += (size + 255) / 256; len(export) != files {
				t.Errorf("%d files; want %d", len(export), files)
			}
		})
	}
}

// TestOthersReadOurTiles reads an export with torchwood's client and with x/mod's proofs.
func TestOthersReadOurTiles(t *testing.T) {
	t.Parallel()
	records := testRecords(t, 1, 1000)
	export, c := testExport(t, 1, records)
	_, vkey := testKey(t, testOrigin(1), 1)
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	policy := torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(testOrigin(1)), torchwood.SingleVerifierPolicy(verifier))
	checkpoint, _, err := torchwood.VerifyCheckpoint(export[fileCheckpoint].Data, policy)
	if err != nil || checkpoint.N != 1000 || checkpoint.Hash != c.Root {
		t.Fatalf("torchwood reads the checkpoint as %+v, %v", checkpoint, err)
	}
	files, err := torchwood.NewTileFS(export.fs())
	if err != nil {
		t.Fatal(err)
	}
	client, err := torchwood.NewClient(files)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i, entry := range client.AllEntries(context.Background(), checkpoint.Tree, 0) {
		if !bytes.Equal(entry, records[i].Entry) {
			t.Fatalf("torchwood reads another entry %d", i)
		}
		n++
	}
	if client.Err() != nil || n != 1000 {
		t.Fatalf("torchwood reads %d entries: %v", n, client.Err())
	}
	hashes := torchwood.TileHashReaderWithContext(context.Background(), checkpoint.Tree, files)
	var old Tree
	for i, r := range records {
		old.Append(r.Leaf)
		if size := int64(i + 1); size < 4 || size%125 == 0 || size == 257 {
			proof, err := tlog.ProveTree(1000, size, hashes)
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.CheckTree(proof, 1000, c.Root, size, old.Root()); err != nil {
				t.Errorf("the log of %d entries is no beginning of this one: %v", size, err)
			}
		}
	}
}

func toDir(t *testing.T, m memory) string {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	create := Into(root)
	for name, file := range m {
		w, err := create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(file.Data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestExportIntoADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	records := testRecords(t, 1, 300)
	if _, err := WriteExport(Into(root), each(records), sealWith(t, testOrigin(1), 1)); err != nil {
		t.Fatal(err)
	}
	if report, err := CheckDir(dir, Known{}); err != nil || report.Checked != 300 || report.KeyKnown || report.Disclosed != 43 {
		t.Fatalf("report = %+v, %v", report, err)
	}
	info, err := os.Stat(filepath.Join(dir, fileRecords))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: others can read what it discloses", info.Mode(), err)
	}
	if _, err := WriteExport(Into(root), each(records), sealWith(t, testOrigin(1), 1)); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second export into the directory: %v", err)
	}
	if _, err := Into(root)("../outside"); err == nil {
		t.Error("a file was made outside of the directory")
	}
}

func TestExportRefuses(t *testing.T) {
	t.Parallel()
	good, torn := testRecords(t, 1, 5), errors.New("torn")
	seal := sealWith(t, testOrigin(1), 1)
	for name, c := range map[string]struct {
		records []Record
		fail    error
		seal    Seal
		want    string
	}{
		"a gap":             {slices.Delete(slices.Clone(good), 2, 3), nil, seal, "sequence number is 3"},
		"the source fails":  {good, torn, seal, "torn"},
		"the seal fails":    {good, nil, func(int64, [32]byte) ([]byte, string, error) { return nil, "", torn }, "torn"},
		"another log's key": {good, nil, sealWith(t, testOrigin(2), 2), "another log"},
		"another tree": {good, nil, func(size int64, root [32]byte) ([]byte, string, error) {
			return seal(size+1, root)
		}, "another tree"},
		"no checkpoint": {good, nil, func(int64, [32]byte) ([]byte, string, error) { return nil, "x", nil }, "verifier key"},
	} {
		m := memory{}
		_, err := WriteExport(m.create, func(yield func(Record, error) bool) {
			for _, r := range c.records {
				if !yield(r, nil) {
					return
				}
			}
			if c.fail != nil {
				yield(Record{}, c.fail)
			}
		}, c.seal)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error = %v; want %q", name, err, c.want)
		}
		if m[fileCheckpoint] != nil {
			t.Errorf("%s: it has a checkpoint nevertheless", name)
		}
	}
}

// TestExportWithoutSpace fails each write in turn: there is an error, and no checkpoint.
func TestExportWithoutSpace(t *testing.T) {
	t.Parallel()
	records, full := testRecords(t, 1, 600), errors.New("no space left")
	whole, _ := testExport(t, 1, records)
	for bad := range whole {
		for _, at := range []string{"create", "write", "close"} {
			m := memory{}
			_, err := WriteExport(func(name string) (io.WriteCloser, error) {
				if name == bad && at == "create" {
					return nil, full
				}
				w, err := m.create(name)
				if name == bad {
					return tornFile{w, at, full}, err
				}
				return w, err
			}, each(records), sealWith(t, testOrigin(1), 1))
			if !errors.Is(err, full) || m[fileCheckpoint] != nil && bad != fileCheckpoint {
				t.Errorf("%s of %s: error = %v", at, bad, err)
			}
		}
	}
}

type tornFile struct {
	io.WriteCloser
	at  string
	err error
}

func (f tornFile) Write(b []byte) (int, error) {
	if f.at == "write" {
		return 0, f.err
	}
	return f.WriteCloser.Write(b)
}

func (f tornFile) Close() error {
	if err := f.WriteCloser.Close(); f.at != "close" {
		return err
	}
	return f.err
}

// python runs the checker that shares no code with this package.
func python(t *testing.T, args ...string) (string, bool) {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no python3, and CI is set")
		}
		fmt.Println("skipped: no python3")
		t.Skip("skipped: no python3")
	}
	out, err := exec.Command(path, append([]string{"testdata/check.py"}, args...)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), err == nil
}

func TestIndependentChecker(t *testing.T) {
	t.Parallel()
	records := testRecords(t, 1, 700)
	_, vkey := testKey(t, testOrigin(1), 1)
	for _, size := range []int{0, 1, 256, 700} {
		export, c := testExport(t, 1, records[:size])
		out, ok := python(t, "export", toDir(t, export), vkey)
		if want := fmt.Sprintf("ok %s: %d entries, root %x, link ", testOrigin(1), size, c.Root); !ok || !strings.HasPrefix(out, want) {
			t.Errorf("size %d: it says %s", size, out)
		}
	}
	good, _ := testExport(t, 1, records[:300])
	for name, want := range map[string]string{
		fileCheckpoint: "entry -1:", fileKey: "entry -1:", fileRecords: "entry 150:", tilePath(entriesLevel, 0, 256): "entry 128:",
		tilePath(0, 0, 256): "entry 128:", tilePath(0, 1, 44): "entry 278:", tilePath(1, 0, 1): "entry 0:",
	} {
		bad := good.clone()
		data := bytes.Clone(bad[name].Data)
		data[len(data)/2] ^= 1
		bad.set(name, data)
		_, err := Check(bad.fs(), Known{})
		var f *Fault
		out, ok := python(t, "export", toDir(t, bad))
		if !errors.As(err, &f) || ok || fmt.Sprintf("entry %d:", f.Index) != want || !strings.HasPrefix(out, want) {
			t.Errorf("%s: we say %v, it says %s; want %s", name, err, out, want)
		}
	}
}

func BenchmarkExport(b *testing.B) {
	records := testRecords(b, 1, 10000)
	b.ReportAllocs()
	for b.Loop() {
		testExport(b, 1, records)
	}
}

func BenchmarkCheck(b *testing.B) {
	export, _ := testExport(b, 1, testRecords(b, 1, 10000))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Check(export.fs(), Known{}); err != nil {
			b.Fatal(err)
		}
	}
}
