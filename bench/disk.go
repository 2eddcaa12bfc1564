package main

import (
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	diskBlock = 8 << 10  // what PostgreSQL writes to its log at least
	diskFile  = 16 << 20 // a segment of it
)

// fdatasync measures what it takes to write one block and make it durable, in a file whose space is there already, as
// PostgreSQL does with its log.
func fdatasync(dir string, runFor time.Duration) (h *histogram, err error) {
	f, err := os.CreateTemp(dir, "fdatasync-")
	if err != nil {
		return nil, fmt.Errorf("bench.fdatasync: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 7)
	}
	for range diskFile / len(block) {
		if _, err := f.Write(block); err != nil {
			return nil, fmt.Errorf("bench.fdatasync: %w", err)
		}
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("bench.fdatasync: %w", err)
	}
	return fdatasyncs(f, runFor)
}
