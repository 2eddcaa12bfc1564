package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU times in /proc. It is 1/100 s on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// procTimes are the CPU times of a process.
type procTimes struct {
	parent int
	own    time.Duration
	gone   time.Duration // of children that have ended and been waited for
}

func procOf(pid int) (procTimes, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return procTimes{}, fmt.Errorf("bench.procOf: %w", err)
	}
	return parseStat(b)
}

// parseStat reads /proc/PID/stat. The name of the program stands in it as it is, so it may hold blanks and brackets.
func parseStat(b []byte) (t procTimes, err error) {
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 15 {
		return t, fmt.Errorf("bench.parseStat: %d fields", len(fields))
	}
	if t.parent, err = strconv.Atoi(fields[1]); err != nil {
		return t, fmt.Errorf("bench.parseStat: %w", err)
	}
	var ticks [4]int64
	for i := range ticks {
		if ticks[i], err = strconv.ParseInt(fields[11+i], 10, 64); err != nil {
			return t, fmt.Errorf("bench.parseStat: %w", err)
		}
	}
	t.own = time.Duration(ticks[0]+ticks[1]) * tick
	t.gone = time.Duration(ticks[2]+ticks[3]) * tick
	return t, nil
}

// clusterTime is the CPU time of a PostgreSQL cluster: its postmaster, the children that it has, and those it had.
func clusterTime(postmaster int) time.Duration {
	main, err := procOf(postmaster)
	if err != nil {
		return 0
	}
	sum := main.own + main.gone
	all, _ := os.ReadDir("/proc") // a machine without it has no numbers, and no measurements
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if t, err := procOf(pid); err == nil && t.parent == postmaster {
			sum += t.own + t.gone
		}
	}
	return sum
}

// processTime is the CPU time of some processes, without their children.
func processTime(pids []int) (sum time.Duration) {
	for _, pid := range pids {
		if t, err := procOf(pid); err == nil {
			sum += t.own
		}
	}
	return sum
}

// memory is the resident memory of a process in bytes, 0 if it is not known.
func memory(pid int) int64 {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status")) // a process that is gone has none
	return statusBytes(b, "VmRSS")
}

func statusBytes(b []byte, name string) int64 {
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// postmasterOf finds the first process of the private cluster under the data directory of `avouch dev`.
func postmasterOf(dir string) (int, error) {
	for _, at := range []string{"postgres/data/postmaster.pid", "postgres/postmaster.pid"} {
		b, err := os.ReadFile(filepath.Join(dir, at))
		if err != nil {
			continue
		}
		first, _, _ := strings.Cut(string(b), "\n")
		return strconv.Atoi(strings.TrimSpace(first))
	}
	return 0, fmt.Errorf("bench.postmasterOf: no postmaster.pid under %s", filepath.Join(dir, "postgres"))
}

func loadAverage() (float64, error) {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, fmt.Errorf("bench.loadAverage: %w", err)
	}
	first, _, _ := strings.Cut(string(b), " ")
	return strconv.ParseFloat(first, 64)
}
