package audit

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

const tampered = 300 // entries of the export that the matrix changes: two bundles, one of them partial

// working is how much processor time f takes. The tests share the machine, so the clock on the wall would tell of others;
// what waits for ever is found by the test's own time limit.
func working(t *testing.T, f func()) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const thisThread = 1 // RUSAGE_THREAD of getrusage(2)
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(thisThread, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	f()
	return used() - before
}

// promptly is Check, which must not take a second to refuse.
func promptly(t *testing.T, fsys fs.FS, known Known) error {
	t.Helper()
	var err error
	if d := working(t, func() { _, err = Check(fsys, known) }); d > time.Second {
		t.Errorf("the check took %v", d)
	}
	return err
}

// blamed is the entry that a byte of a file belongs to.
func blamed(t *testing.T, name string, data []byte, at int) Seq {
	t.Helper()
	switch name {
	case fileCheckpoint, fileKey:
		return Whole
	case fileRecords:
		return Seq(bytes.Count(data[:at], []byte("\n")))
	}
	tile, err := torchwood.ParseTilePath(name)
	if err != nil {
		t.Fatal(err)
	}
	if tile.L >= 0 {
		return Seq((tile.N*tileWidth + int64(min(at/tlog.HashSize, tile.W-1))) << (tileBits * tile.L))
	}
	n := tile.N * tileWidth
	for off := 2 + int(binary.BigEndian.Uint16(data)); at >= off && off < len(data); n++ {
		off += 2 + int(binary.BigEndian.Uint16(data[off:]))
	}
	return Seq(n)
}

// TestTamperBytes changes, adds and cuts bytes in every file of an export. Every byte of the small files; of the large
// ones a sample that falls on every part of a line.
func TestTamperBytes(t *testing.T) {
	t.Parallel()
	good, _ := testExport(t, 1, testRecords(t, 1, tampered))
	for name, file := range good {
		t.Run(strings.ReplaceAll(name, "/", "_"), func(t *testing.T) {
			t.Parallel()
			data := file.Data
			change := func(what string, at int, to []byte, want Seq) {
				bad := good.clone()
				bad.set(name, to)
				err := promptly(t, bad.fs(), Known{})
				if f, ok := err.(*Fault); !ok || f.Index != want {
					t.Errorf("%s at byte %d: %v; want a fault at %d", what, at, err, want)
				}
			}
			step := max(1, len(data)/120) | 1
			for at := 0; at < len(data); at += step {
				b := bytes.Clone(data)
				b[at] ^= 1 << (at % 7)
				change("flip", at, b, blamed(t, name, data, at))
				if at%3 == 0 {
					change("cut", at, data[:at], blamed(t, name, data, at))
				}
			}
			end := blamed(t, name, data, len(data))
			change("add", len(data), append(bytes.Clone(data), 'x'), end)
			change("add a newline", len(data), append(bytes.Clone(data), '\n'), end)
			bad := good.clone()
			delete(bad, name)
			if f := wantFault(t, promptly(t, bad.fs(), Known{}), blamed(t, name, data, 0)); !strings.Contains(f.Reason, "missing") {
				t.Errorf("without it: %v", f)
			}
		})
	}
}

func recordsFile(records []Record) []byte {
	var b []byte
	for _, r := range records {
		b = append(r.AppendJSON(b), '\n')
	}
	return b
}

// TestTamperRecords changes which records there are, once in records.ndjson as they stand, once with the whole chain made
// anew (the tiles tell), and once with every file made anew around the old checkpoint (the root tells, or a file that
// must be there is not).
func TestTamperRecords(t *testing.T) {
	t.Parallel()
	records, other := testRecords(t, 1, tampered), testRecords(t, 2, tampered)
	good, _ := testExport(t, 1, records)
	for name, c := range map[string]struct {
		change                   func([]Record) []Record
		asIs, relinked, remadeAt Seq
	}{
		"delete first":              {func(r []Record) []Record { return r[1:] }, 0, 0, 256},
		"delete":                    {func(r []Record) []Record { return slices.Delete(r, 100, 101) }, 100, 100, 256},
		"truncate tail":             {func(r []Record) []Record { return r[:290] }, 290, 290, 256},
		"truncate all":              {func(r []Record) []Record { return nil }, 0, 0, 0},
		"truncate to a full bundle": {func(r []Record) []Record { return r[:256] }, 256, 256, 256},
		"insert":                    {func(r []Record) []Record { return slices.Insert(r, 100, r[200]) }, 100, 100, 256},
		"duplicate":                 {func(r []Record) []Record { return slices.Insert(r, 100, r[99]) }, 100, 100, 256},
		"append":                    {func(r []Record) []Record { return append(r, r[0]) }, tampered, tampered, 256},
		"swap": {func(r []Record) []Record {
			r[100], r[200] = r[200], r[100]
			return r
		}, 100, 100, Whole},
		"another log's entry": {func(r []Record) []Record {
			r[100] = other[100]
			return r
		}, 100, 100, 0},
		"edit": {func(r []Record) []Record {
			e, _ := testEntry(1, 100)
			e.Decision = "DENIED"
			r[100].Entry, _ = e.Encode()
			r[100].Disclosed = nil
			return r
		}, 100, 100, Whole},
	} {
		changed := c.change(slices.Clone(records))
		bad := good.clone()
		bad.set(fileRecords, recordsFile(changed))
		if err := promptly(t, bad.fs(), Known{}); err == nil || err.(*Fault).Index != c.asIs {
			t.Errorf("%s: %v; want a fault at %d", name, err, c.asIs)
		}
		bad.set(fileRecords, recordsFile(relink(changed)))
		if err := promptly(t, bad.fs(), Known{}); err == nil || err.(*Fault).Index != c.relinked {
			t.Errorf("%s, relinked: %v; want a fault at %d", name, err, c.relinked)
		}
		if name == "another log's entry" {
			continue // WriteExport would not write it
		}
		bad, _ = testExport(t, 1, relink(changed))
		bad[fileCheckpoint] = good[fileCheckpoint]
		if err := promptly(t, bad.fs(), Known{}); err == nil || err.(*Fault).Index != c.remadeAt {
			t.Errorf("%s, all made anew: %v; want a fault at %d", name, err, c.remadeAt)
		}
	}
}

// TestLayerC is what the hashes alone cannot show, and what does: the log's key known from elsewhere, and a checkpoint
// seen before.
func TestLayerC(t *testing.T) {
	t.Parallel()
	records := testRecords(t, 1, tampered)
	now, _ := testExport(t, 1, records)
	before, _ := testExport(t, 1, records[:257])
	empty, _ := testExport(t, 1, nil)
	_, vkey := testKey(t, testOrigin(1), 1)
	edited := slices.Clone(records)
	e, _ := testEntry(1, 100)
	e.Decision = "DENIED"
	edited[100].Entry, _ = e.Encode()
	edited[100].Disclosed = nil
	rewritten, _ := testExport(t, 1, relink(edited))
	forged := memory{}
	if _, err := WriteExport(forged.create, each(relink(edited)), sealWith(t, testOrigin(1), 7)); err != nil {
		t.Fatal(err)
	}
	stranger, _ := testExport(t, 2, testRecords(t, 2, tampered))
	seen := func(m memory) []byte { return m[fileCheckpoint].Data }
	for name, c := range map[string]struct {
		export memory
		known  Known
		want   Seq // -2: it holds
	}{
		"nothing known":                  {now, Known{}, -2},
		"the key known":                  {now, Known{Key: vkey}, -2},
		"grown since":                    {now, Known{vkey, seen(before)}, -2},
		"grown from nothing":             {now, Known{vkey, seen(empty)}, -2},
		"not grown":                      {now, Known{vkey, seen(now)}, -2},
		"rolled back":                    {before, Known{vkey, seen(now)}, 257},
		"rolled back, unnoticed":         {before, Known{Key: vkey}, -2},
		"rolled back to nothing":         {empty, Known{vkey, seen(now)}, 0},
		"rewritten by the key's owner":   {rewritten, Known{vkey, seen(before)}, Whole},
		"rewritten to the same size":     {rewritten, Known{vkey, seen(now)}, Whole},
		"rewritten, unnoticed":           {rewritten, Known{Key: vkey}, -2},
		"signed by another key":          {forged, Known{Key: vkey}, Whole},
		"another key, unnoticed":         {forged, Known{}, -2},
		"another log":                    {stranger, Known{Key: vkey}, Whole},
		"another log's checkpoint":       {now, Known{Earlier: seen(stranger)}, Whole},
		"a checkpoint that is not there": {now, Known{Earlier: []byte{}}, Whole},
	} {
		report, err := Check(c.export.fs(), c.known)
		if c.want == -2 {
			if err != nil || report.EarlierHeld != (c.known.Earlier != nil) || report.KeyKnown != (c.known.Key != "") {
				t.Errorf("%s: %+v, %v", name, report, err)
			}
			continue
		}
		if f, ok := err.(*Fault); !ok || f.Index != c.want {
			t.Errorf("%s: %v; want a fault at %d", name, err, c.want)
		}
	}
	mixed := now.clone()
	mixed[fileCheckpoint], mixed[fileKey] = stranger[fileCheckpoint], stranger[fileKey]
	wantFault(t, promptly(t, mixed.fs(), Known{}), 0)
}

// TestHostileDirectory puts other things in the place of each file. A pipe would be waited for for ever.
func TestHostileDirectory(t *testing.T) {
	t.Parallel()
	good, _ := testExport(t, 1, testRecords(t, 1, tampered))
	outside := toDir(t, good)
	put := map[string]func(path, name string) error{
		"a pipe":               func(path, _ string) error { return syscall.Mkfifo(path, 0o600) },
		"a directory":          func(path, _ string) error { return os.Mkdir(path, 0o700) },
		"a link to itself":     func(path, _ string) error { return os.Symlink(filepath.Base(path), path) },
		"a link to the device": func(path, _ string) error { return os.Symlink("/dev/zero", path) },
		"a link outside":       func(path, name string) error { return os.Symlink(filepath.Join(outside, name), path) },
		"a hole of a terabyte": func(path, _ string) error {
			return os.WriteFile(path, nil, 0o600)
		},
	}
	for what, make := range put {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for name, file := range good {
				dir := toDir(t, good)
				path := filepath.Join(dir, name)
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				if err := make(path, name); err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(what, "a hole") {
					if err := os.Truncate(path, 1<<40); err != nil {
						t.Fatal(err)
					}
				}
				var err error
				d := working(t, func() { _, err = CheckDir(dir, Known{}) })
				if f := wantFault(t, err, blamed(t, name, file.Data, 0)); d > time.Second {
					t.Errorf("%s: %v after %v", name, f, d)
				}
				_, _ = Prove(os.DirFS(dir), 0) // must return
			}
		})
	}
	_, err := CheckDir(filepath.Join(outside, "nowhere"), Known{})
	wantFault(t, err, Whole)
	_, err = CheckDir(filepath.Join(outside, fileKey), Known{})
	wantFault(t, err, Whole)
}

const bombSize = 64 << 20

// foldZeros is bombSize zeros, compressed, and their checksum.
func foldZeros(t *testing.T) ([]byte, uint32) {
	t.Helper()
	var folded bytes.Buffer
	w, err := flate.NewWriter(&folded, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	zeros, sum := make([]byte, 1<<20), crc32.NewIEEE()
	for range bombSize / len(zeros) {
		if _, err := io.MultiWriter(w, sum).Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return folded.Bytes(), sum.Sum32()
}

// zipped is an export as a zip file, with one of its files replaced by the bomb.
func zipped(t *testing.T, m memory, bomb string, folded []byte, sum uint32) *zip.Reader {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, file := range m {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		open, data := z.CreateHeader, file.Data
		if name == bomb {
			h.CRC32, h.CompressedSize64, h.UncompressedSize64 = sum, uint64(len(folded)), bombSize
			open, data = z.CreateRaw, folded
		}
		w, err := open(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestZipBomb unfolds each file of a zipped export to 64 MiB of zeros. Not parallel: it counts the program's memory.
func TestZipBomb(t *testing.T) {
	good, _ := testExport(t, 1, testRecords(t, 1, tampered))
	folded, sum := foldZeros(t)
	if _, err := Check(zipped(t, good, "", nil, 0), Known{}); err != nil {
		t.Fatalf("the good export, zipped: %v", err)
	}
	for name, file := range good {
		bomb := zipped(t, good, name, folded, sum)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := promptly(t, bomb, Known{})
		runtime.ReadMemStats(&after)
		wantFault(t, err, blamed(t, name, file.Data, 0))
		if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
			t.Errorf("%s: %d MiB", name, used>>20)
		}
	}
}

// heapAt collects garbage and measures the heap when the nth bundle is written or read.
type heapAt struct {
	bundles int
	at      map[int]uint64
}

func (h *heapAt) saw(name string) {
	if !strings.HasPrefix(name, "tile/entries/") {
		return
	}
	if h.bundles++; h.bundles == 10 || h.bundles == 70 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		h.at[h.bundles] = m.HeapAlloc
	}
}

func (h *heapAt) grown(t *testing.T, what string) {
	t.Helper()
	if len(h.at) != 2 || int64(h.at[70])-int64(h.at[10]) > 2<<20 {
		t.Errorf("%s: from bundle 10 to 70 the heap went from %d to %d bytes", what, h.at[10], h.at[70])
	}
}

type watchedFS struct {
	fstest.MapFS
	heap *heapAt
}

func (w watchedFS) Open(name string) (fs.File, error) {
	w.heap.saw(name)
	return w.MapFS.Open(name)
}

// TestMemoryDoesNotGrow: an export is written and checked as a stream. Not parallel: it measures the program's heap.
func TestMemoryDoesNotGrow(t *testing.T) {
	records := shortRecords(t, 1, 72*tileWidth)
	export, _ := testExport(t, 1, records)
	heap := &heapAt{at: map[int]uint64{}}
	_, err := WriteExport(func(name string) (io.WriteCloser, error) {
		heap.saw(name)
		return nowhere{}, nil
	}, each(records), sealWith(t, testOrigin(1), 1))
	if err != nil {
		t.Fatal(err)
	}
	heap.grown(t, "WriteExport")
	heap = &heapAt{at: map[int]uint64{}}
	if _, err := Check(watchedFS{export.fs(), heap}, Known{}); err != nil {
		t.Fatal(err)
	}
	heap.grown(t, "Check")
}

type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) Close() error                { return nil }

// TestClaimedSizes: the work follows what is there, whatever size a checkpoint claims.
func TestClaimedSizes(t *testing.T) {
	t.Parallel()
	good, c := testExport(t, 1, testRecords(t, 1, tampered))
	for size, want := range map[int64]Seq{0: Whole, 1: 0, 299: 256, 301: 256, 512: 0, MaxSize: 0, MaxSize + 1: Whole, 1<<62 + 1: Whole, 1<<63 - 1: Whole} {
		bad := good.clone()
		bad.set(fileCheckpoint, signNote(t, 1, fmt.Sprintf("%s\n%d\n%s\n", testOrigin(1), size, tlog.Hash(c.Root))))
		if err := promptly(t, bad.fs(), Known{}); err == nil || err.(*Fault).Index != want {
			t.Errorf("size %d: %v; want a fault at %d", size, err, want)
		}
	}
}

func TestReportJSON(t *testing.T) {
	t.Parallel()
	export, c := testExport(t, 1, testRecords(t, 1, 3))
	report, err := Check(export.fs(), Known{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"size":3,"checked":3`, fmt.Sprintf(`"root":"%x"`, c.Root), `"key_known":false`, `"first":"2026-11-22T06:31:04Z"`} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("%s is not in %s", want, b)
		}
	}
	if b, err = json.Marshal(faultf(7, "record", "x")); err != nil || string(b) != `{"index":7,"part":"record","reason":"x"}` {
		t.Errorf("a fault is %s, %v", b, err)
	}
}

func FuzzBundle(f *testing.F) {
	good, _ := testExport(f, 1, testRecords(f, 1, 3))
	name := tilePath(entriesLevel, 0, 3)
	whole := good[name].Data
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		bad := good.clone()
		bad.set(name, b)
		_, err := Check(bad.fs(), Known{})
		if (err == nil) != bytes.Equal(b, whole) {
			t.Errorf("with the bundle %x: %v", b, err)
		}
		if fault, ok := err.(*Fault); err != nil && (!ok || fault.Index < 0 || fault.Index > 2) {
			t.Errorf("with the bundle %x: %v", b, err)
		}
	})
}
