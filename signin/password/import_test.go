package password

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/secret"
)

type digest = [sha1.Size]byte

func random(r *rand.Rand) (d digest) {
	for i := range d {
		d[i] = byte(r.Uint32())
	}
	return d
}

// download is lines of digests, of which the count is the digest's own last byte.
func download(all []digest) *bytes.Buffer {
	var b bytes.Buffer
	for _, d := range all {
		fmt.Fprintf(&b, "%s:%d\r\n", strings.ToUpper(hex.EncodeToString(d[:])), d[19])
	}
	return &b
}

func made(t *testing.T, m Import, from io.Reader) (string, Imported) {
	t.Helper()
	m.Out = filepath.Join(t.TempDir(), "breached")
	done, err := m.From(t.Context(), from)
	must(t, err)
	return m.Out, done
}

// TestImport: of 100,000 hashes all are found, and of as many others none, whatever order they come in and how many fit into memory.
func TestImport(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	all, others := make([]digest, 100_000), make([]digest, 100_000)
	for i := range all {
		all[i], others[i] = random(r), random(r)
	}
	ordered := slices.SortedFunc(slices.Values(all), func(a, b digest) int { return bytes.Compare(a[:], b[:]) })
	first, done := made(t, Import{keys: 7_000}, download(append(slices.Clone(all), all[:5_000]...)))
	if done.Lines != 105_000 || done.Hashes != 100_000 {
		t.Errorf("it has %+v", done)
	}
	second, _ := made(t, Import{}, download(ordered))
	a, err := os.ReadFile(first)
	must(t, err)
	b, err := os.ReadFile(second)
	must(t, err)
	// The first has room for what came twice, so it may have one bit more: these numbers do not.
	if int64(len(a)) != done.Bytes || !bytes.Equal(a, b) {
		t.Errorf("two imports of the same differ: %d and %d bytes, %d told", len(a), len(b), done.Bytes)
	}
	t.Logf("measured: %.2f bytes a hash", float64(len(a))/100_000)
	f, err := openFilter(first)
	must(t, err)
	defer f.Close()
	for i := range all {
		if has, err := f.has(all[i]); !has || err != nil {
			t.Fatalf("hash %d is not found: %v", i, err)
		}
		if has, err := f.has(others[i]); has || err != nil {
			t.Fatalf("hash %d is found, and is not there: %v", i, err)
		}
	}
}

// TestImportSizes: every number of hashes has its layout, down to one, also at the ends of the range.
func TestImportSizes(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{1, 2, 63, 64, 65, 127, 128, 129, 1000, 5000} {
		all := []digest{{}}
		for len(all) < n-1 {
			all = append(all, random(r))
		}
		last := digest(bytes.Repeat([]byte{0xff}, sha1.Size))
		if n > 1 {
			all = append(all, last)
		}
		path, done := made(t, Import{keys: 50}, download(all))
		f, err := openFilter(path)
		must(t, err)
		defer f.Close()
		for _, d := range all {
			if has, err := f.has(d); !has || err != nil {
				t.Errorf("of %d, %x is not found: %v", n, d, err)
			}
		}
		if has, err := f.has(random(r)); has || err != nil || done.Hashes != uint64(n) {
			t.Errorf("of %d: %v, %v, %+v", n, has, err, done)
		}
	}
}

// TestImportHoldsTheFile: passwords of the download are known, those that were seen seldom are not, and a new file counts at once.
func TestImportHoldsTheFile(t *testing.T) {
	t.Parallel()
	text := fmt.Sprintf("%s:384\n%s:2\n", digits(horse), strings.ToLower(digits(snail)))
	path, done := made(t, Import{MinCount: 3}, strings.NewReader(text))
	if done.Lines != 2 || done.Hashes != 1 {
		t.Errorf("it has %+v", done)
	}
	b := lists(t, BreachedConfig{File: path, Required: true})
	if !known(t, b, horse) || known(t, b, snail) || known(t, b, plum) {
		t.Error("the file is misread")
	}
	_, err := Import{Out: path}.From(t.Context(), strings.NewReader(text))
	if must(t, err); !known(t, b, snail) {
		t.Error("the new file does not count")
	}
	must(t, os.Remove(path))
	if _, err := b.Known(t.Context(), secret.Text(plum)); err == nil || b.Failed() != 1 {
		t.Errorf("a file that is gone knows: %v", err)
	}
}

// TestBadDownloads make nothing, name the line, leave the file that is there, and nothing else.
func TestBadDownloads(t *testing.T) {
	t.Parallel()
	good := digits(horse) + ":1\n"
	for why, c := range map[string]struct {
		text string
		line uint64
	}{
		"NTLM": {good + good + strings.Repeat("A", 32) + ":1\n", 3}, "a suffix": {digits(horse)[5:] + ":1\n", 1}, "no count": {digits(horse) + "\n", 1},
		"a count that is none": {good + digits(horse) + ":x\n", 2}, "an empty line": {good + "\n" + good, 2}, "no hexadecimal digit": {"G" + digits(horse)[1:] + ":1\n", 1},
		"a long line": {good + strings.Repeat("A", 1<<17), 2}, "a cut end": {good + digits(horse)[:17], 2}, "a minus": {digits(horse) + ":-1\n", 1},
	} {
		dir := t.TempDir()
		out := filepath.Join(dir, "breached")
		must(t, os.WriteFile(out, []byte("the old one"), 0o600))
		_, err := Import{Out: out}.From(t.Context(), strings.NewReader(c.text))
		var line *LineError
		if !errors.As(err, &line) || line.Line != c.line {
			t.Errorf("%s: %v", why, err)
		}
		left, err := os.ReadDir(dir)
		must(t, err)
		text, err := os.ReadFile(out)
		if must(t, err); len(left) != 1 || string(text) != "the old one" {
			t.Errorf("%s: it left %v, and %q", why, left, text)
		}
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Import{Out: filepath.Join(dir, "breached")}).From(ctx, strings.NewReader(good)); !errors.Is(err, context.Canceled) {
		t.Errorf("an import that was ended: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("it left %v", left)
	}
}

// TestDamagedFilter: a file with one bit turned, or an end that lacks, says of no hash what it did not before; it fails.
func TestDamagedFilter(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	all := make([]digest, 150)
	for i := range all {
		all[i] = random(r)
	}
	path, _ := made(t, Import{}, download(all))
	whole, err := os.ReadFile(path)
	must(t, err)
	failures := 0
	for bit := range len(whole) * 8 {
		damaged := slices.Clone(whole)
		damaged[bit/8] ^= 1 << (bit % 8)
		f, err := readFilter(bytes.NewReader(damaged), int64(len(damaged)))
		if err != nil {
			failures++
			continue
		}
		failed := false
		for _, d := range all {
			has, err := f.has(d)
			if failed = failed || err != nil; err == nil && !has {
				t.Fatalf("bit %d: a hash is not found", bit)
			}
		}
		if !failed && bit/8 < filterHeader {
			t.Fatalf("bit %d of the header tells nobody", bit)
		}
		if failed {
			failures++
		}
	}
	// The hash count in the last entry of the index has a checksum that nobody reads; 4 bytes.
	if lacking := len(whole)*8 - failures; lacking > 32 {
		t.Errorf("%d bits can be turned and nobody sees it", lacking)
	}
	for size := range len(whole) {
		if _, err := readFilter(bytes.NewReader(whole[:size]), int64(size)); err == nil {
			t.Fatalf("a file of %d bytes of %d is taken", size, len(whole))
		}
	}
}

func FuzzFilter(f *testing.F) {
	var small bytes.Buffer
	small.Write(filterHead(0, 1))
	f.Add(small.Bytes(), []byte("abc"))
	f.Add(append(slices.Clone(filterHead(1, 2)), make([]byte, 3*indexEntry+2*hashEntry)...), []byte("abc"))
	f.Fuzz(func(t *testing.T, file, of []byte) {
		// A header that holds is made, or the sums would keep the fuzzer out.
		if len(file) > filterHeader {
			bits := int(file[11] % 8)
			f := filter{bits: bits}
			hashes := max(0, (int64(len(file))-f.at(0))/hashEntry)
			copy(file, filterHead(bits, uint64(hashes)))
			file = file[:min(int64(len(file)), f.at(uint64(hashes)))]
		}
		parsed, err := readFilter(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		_, _ = parsed.has(sha1.Sum(of))
	})
}

func FuzzDownload(f *testing.F) {
	f.Add([]byte(digits(horse) + ":3"))
	f.Add([]byte(strings.ToLower(digits(horse)) + ":0"))
	f.Fuzz(func(t *testing.T, line []byte) {
		k, count, err := parseLine(line)
		if err != nil {
			return
		}
		hash, times, _ := bytes.Cut(line, []byte(":"))
		var d digest
		if _, err := hex.Decode(d[:], hash); err != nil || key(d) != k || strings.TrimLeft(string(times), "0") != strings.TrimLeft(fmt.Sprint(count), "0") {
			t.Errorf("%q is read as %x, %d: %v", line, k, count, err)
		}
	})
}
