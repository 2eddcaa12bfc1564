package main

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

func fdatasyncs(f *os.File, runFor time.Duration) (*histogram, error) {
	h := newHistogram()
	block := make([]byte, diskBlock)
	for end := time.Now().Add(runFor); time.Now().Before(end); {
		block[h.n%diskBlock]++
		start := time.Now()
		if _, err := f.WriteAt(block, int64(h.n*diskBlock%diskFile)); err != nil {
			return nil, fmt.Errorf("bench.fdatasync: %w", err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return nil, fmt.Errorf("bench.fdatasync: %w", err)
		}
		h.add(time.Since(start))
	}
	return h, nil
}
