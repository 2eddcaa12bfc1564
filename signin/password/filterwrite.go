package password

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
	"os"
	"path/filepath"
)

// filterWriter writes a filter file: the sorted keys one by one, then close or abandon. Index and buckets are written side by side.
type filterWriter struct {
	file    *os.File
	bits    int
	index   *bufio.Writer
	buckets *bufio.Writer

	bucket uint64 // that is being filled
	hashes []byte // of it
	last   uint32 // of those
	n      uint64 // hashes before it
}

// newFilterWriter begins a file for at most so many hashes, under a name of its own beside the final one.
func newFilterWriter(dir string, most uint64) (*filterWriter, error) {
	file, err := os.CreateTemp(dir, ".avouch-breached-*")
	if err != nil {
		return nil, err
	}
	w := &filterWriter{file: file, bits: min(bits.Len64(most/bucketAims), mostBits)}
	f := filter{bits: w.bits}
	w.index = bufio.NewWriterSize(io.NewOffsetWriter(file, filterHeader), 1<<16)
	w.buckets = bufio.NewWriterSize(io.NewOffsetWriter(file, f.at(0)), 1<<16)
	return w, nil
}

// add takes the next key, which is not less than the one before.
func (w *filterWriter) add(key uint64) error {
	bucket, rest := bucketOf(key, w.bits)
	for w.bucket < bucket {
		if err := w.endBucket(); err != nil {
			return err
		}
	}
	switch {
	case len(w.hashes) > 0 && rest == w.last: // the same, as far as it can be told
		return nil
	case len(w.hashes) >= mostBucket*hashEntry:
		return errors.New("the hashes are not spread as those of SHA-1 are")
	}
	w.hashes, w.last = binary.BigEndian.AppendUint32(w.hashes, rest), rest
	return nil
}

func (w *filterWriter) endBucket() error {
	entry := binary.BigEndian.AppendUint64(nil, w.n)
	entry = binary.BigEndian.AppendUint32(entry, bucketSum(w.bucket, w.hashes))
	_, err := w.index.Write(entry)
	if _, e := w.buckets.Write(w.hashes); err == nil {
		err = e
	}
	w.n += uint64(len(w.hashes) / hashEntry)
	w.bucket, w.hashes = w.bucket+1, w.hashes[:0]
	return err
}

// close makes the file whole and durable, and only then gives it its name: whoever opens that finds the old file or the new one.
func (w *filterWriter) close(path string) error {
	for w.bucket <= 1<<w.bits { // the last entry is of a bucket that there is not: the end
		if err := w.endBucket(); err != nil {
			return err
		}
	}
	_, head := w.file.WriteAt(filterHead(w.bits, w.n), 0)
	if err := errors.Join(head, w.index.Flush(), w.buckets.Flush(), w.file.Chmod(0o644), w.file.Sync(), w.file.Close()); err != nil {
		return err
	}
	if err := os.Rename(w.file.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// abandon removes what was written. After close it does nothing.
func (w *filterWriter) abandon() {
	w.file.Close()
	os.Remove(w.file.Name())
}
