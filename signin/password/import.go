package password

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Import says what of a download becomes the filter file.
type Import struct {
	Out      string // the filter file; one that is there is replaced when the new one is whole
	MinCount uint64 // hashes that were seen less often stay out; 0 is all
	// Progress is told now and then how many lines and bytes were read; nil is not.
	Progress func(lines uint64, bytes int64)

	keys int // in memory at once; 0 is keysInMemory. For tests
}

// Imported is what became of a download.
type Imported struct {
	Lines  uint64 `json:"lines"`  // that were read
	Hashes uint64 `json:"hashes"` // in the file
	Bytes  int64  `json:"bytes"`  // of the file
}

// LineError is a line of a download that is not one.
type LineError struct {
	Line uint64
	Why  string
}

// Error says where and why.
func (e *LineError) Error() string { return fmt.Sprintf("line %d %s", e.Line, e.Why) }

const (
	keysInMemory = 4 << 20 // 32 MiB
	runBuffers   = 16 << 20
	linesPerTell = 1 << 20
	longestLine  = 128
)

// From reads lines HASH:COUNT, as the downloads of Have I Been Pwned have them, in any order, and writes the filter file. It
// takes little memory, whatever the length, and room beside the file for eight bytes a hash.
func (m Import) From(ctx context.Context, from io.Reader) (Imported, error) {
	done, err := m.from(ctx, from)
	if err != nil {
		return Imported{}, fmt.Errorf("password.Import: %w", err)
	}
	return done, nil
}

func (m Import) from(ctx context.Context, from io.Reader) (done Imported, err error) {
	sorted, err := newSorter(filepath.Dir(m.Out), cmp.Or(m.keys, keysInMemory))
	if err != nil {
		return done, err
	}
	defer sorted.close()
	if done.Lines, err = m.read(ctx, from, sorted); err != nil {
		return done, err
	}
	if sorted.count == 0 {
		return done, errors.New("there is no hash to keep")
	}
	w, err := newFilterWriter(filepath.Dir(m.Out), sorted.count)
	if err != nil {
		return done, err
	}
	defer w.abandon()
	if err := sorted.each(ctx, w.add); err != nil {
		return done, err
	}
	if err := w.close(m.Out); err != nil {
		return done, err
	}
	done.Hashes = w.n
	f := filter{bits: w.bits}
	done.Bytes = f.at(w.n)
	return done, nil
}

func (m Import) read(ctx context.Context, from io.Reader, into *sorter) (lines uint64, err error) {
	in, size := bufio.NewReaderSize(from, 1<<16), int64(0)
	for {
		line, err := in.ReadSlice('\n')
		size += int64(len(line))
		last := errors.Is(err, io.EOF)
		switch {
		case len(line) > longestLine || errors.Is(err, bufio.ErrBufferFull):
			return lines, &LineError{lines + 1, "is too long"}
		case err != nil && !last:
			return lines, err
		case last && len(line) == 0:
			return lines, ctx.Err()
		}
		lines++
		key, count, err := parseLine(bytes.TrimRight(line, "\r\n"))
		if err != nil {
			return lines, &LineError{lines, err.Error()}
		}
		if count >= m.MinCount {
			if err := into.add(key); err != nil {
				return lines, err
			}
		}
		if lines%linesPerTell != 0 {
			continue
		}
		if ctx.Err() != nil {
			return lines, ctx.Err()
		}
		if m.Progress != nil {
			m.Progress(lines, size)
		}
	}
}

// parseLine reads HASH:COUNT.
func parseLine(line []byte) (key, count uint64, err error) {
	hash, times, found := bytes.Cut(line, []byte(":"))
	switch {
	case !found:
		return 0, 0, errors.New("is not a hash, a colon and a count")
	case len(hash) == 32:
		return 0, 0, errors.New("has an NTLM hash: this takes the download with SHA-1")
	case len(hash) == 35:
		return 0, 0, errors.New("has the end of a hash alone: this takes the download in one file, with whole hashes")
	case len(hash) != 40:
		return 0, 0, errors.New("does not begin with the 40 digits of a SHA-1")
	}
	for i, c := range hash {
		digit := hexDigit(c)
		if digit < 0 {
			return 0, 0, errors.New("does not begin with the 40 digits of a SHA-1")
		}
		if i < 16 {
			key = key<<4 | uint64(digit)
		}
	}
	if count, err = strconv.ParseUint(string(times), 10, 63); err != nil {
		return 0, 0, errors.New("has no count after the colon")
	}
	return key, count, nil
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// sorter sorts more keys than there is memory for: sorted runs go to one file, and are merged.
type sorter struct {
	file  *os.File
	keys  []uint64
	runs  []int64 // where each ends in the file, in bytes
	count uint64
}

func newSorter(dir string, keys int) (*sorter, error) {
	file, err := os.CreateTemp(dir, ".avouch-sorting-*")
	if err != nil {
		return nil, err
	}
	return &sorter{file: file, keys: make([]uint64, 0, keys)}, nil
}

func (s *sorter) close() {
	s.file.Close()
	os.Remove(s.file.Name())
}

func (s *sorter) add(key uint64) error {
	if len(s.keys) == cap(s.keys) {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.keys = append(s.keys, key)
	s.count++
	return nil
}

func (s *sorter) spill() error {
	slices.Sort(s.keys)
	out := bufio.NewWriterSize(s.file, 1<<20)
	for _, k := range s.keys {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], k)
		if _, err := out.Write(b[:]); err != nil {
			return err
		}
	}
	s.runs = append(s.runs, s.end()+int64(len(s.keys))*8)
	s.keys = s.keys[:0]
	return out.Flush()
}

func (s *sorter) end() int64 {
	if len(s.runs) == 0 {
		return 0
	}
	return s.runs[len(s.runs)-1]
}

// each gives all keys, sorted. The sorter takes no more then.
func (s *sorter) each(ctx context.Context, do func(uint64) error) error {
	slices.Sort(s.keys)
	kept := s.keys
	all := merge{&run{next: func() (k uint64, err error) {
		if len(kept) == 0 {
			return 0, io.EOF
		}
		k, kept = kept[0], kept[1:]
		return k, nil
	}}}
	size, begin := max(runBuffers/max(len(s.runs), 1)&^7, 512), int64(0)
	for _, end := range s.runs {
		in := bufio.NewReaderSize(io.NewSectionReader(s.file, begin, end-begin), min(size, 1<<20))
		all, begin = append(all, &run{next: func() (uint64, error) {
			var b [8]byte
			_, err := io.ReadFull(in, b[:])
			return binary.BigEndian.Uint64(b[:]), err
		}}), end
	}
	return all.each(ctx, do)
}

// run is a sorted row of keys, with the least that is left.
type run struct {
	least uint64
	next  func() (uint64, error) // io.EOF at the end
}

// merge is runs as a heap, by what is least in each.
type merge []*run

// Len is for the heap.
func (m merge) Len() int { return len(m) }

// Less is for the heap.
func (m merge) Less(i, j int) bool { return m[i].least < m[j].least }

// Swap is for the heap.
func (m merge) Swap(i, j int) { m[i], m[j] = m[j], m[i] }

// Push is for the heap.
func (m *merge) Push(r any) { *m = append(*m, r.(*run)) }

// Pop is for the heap.
func (m *merge) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

func (m merge) each(ctx context.Context, do func(uint64) error) error {
	var live merge
	for _, r := range m {
		var err error
		if r.least, err = r.next(); err == nil {
			live = append(live, r)
		} else if !errors.Is(err, io.EOF) {
			return err
		}
	}
	heap.Init(&live)
	for n := 1; len(live) > 0; n++ {
		r := live[0]
		if err := do(r.least); err != nil {
			return err
		}
		next, err := r.next()
		switch {
		case err == nil:
			r.least = next
			heap.Fix(&live, 0)
		case errors.Is(err, io.EOF):
			heap.Pop(&live)
		default:
			return err
		}
		if n%linesPerTell == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}
