package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// condition is what a reader must know to compare one run with another. It names no path and no host.
type condition struct {
	Date        string  `json:"date"`
	Time        string  `json:"time"`
	Commit      string  `json:"commit"`
	Cores       int     `json:"cores"`
	Processor   string  `json:"processor"`
	Kernel      string  `json:"kernel"`
	Go          string  `json:"go"`
	Postgres    string  `json:"postgres"`
	Load        float64 `json:"load_average"`
	Rounds      int     `json:"rounds"`
	CellSeconds float64 `json:"cell_seconds"`
	Tenants     int     `json:"tenants"`
	BinaryBytes int64   `json:"binary_bytes"`
	Quick       bool    `json:"quick,omitempty"`
}

func conditions(ctx context.Context, o options, load float64, s *stage) condition {
	now := time.Now().UTC()
	c := condition{
		Date: now.Format(time.DateOnly), Time: now.Format(time.TimeOnly), Commit: commit(ctx), Cores: runtime.NumCPU(), Processor: processor(),
		Kernel: firstLine("/proc/sys/kernel/osrelease"), Go: runtime.Version(), Postgres: postgresVersion(ctx, s.postmaster), Load: load,
		Rounds: o.rounds, CellSeconds: o.cell.Seconds(), Tenants: o.tenants, Quick: o.quick,
	}
	if info, err := os.Stat(o.bin); err == nil {
		c.BinaryBytes = info.Size()
	}
	return c
}

func (c *condition) markdown() string {
	return fmt.Sprintf(`%s UTC, commit %s. %d cores (%s), shared by generator, server and PostgreSQL; Linux %s, %s, PostgreSQL %s; load average before the
start %.2f. Loopback, no TLS, connections kept alive. %d rounds, each cell %.1f s a round after a warm-up; "many tenants" are %d.

`, c.Time, c.Commit, c.Cores, c.Processor, c.Kernel, c.Go, c.Postgres, c.Load, c.Rounds, c.CellSeconds, c.Tenants)
}

const unknown = "unknown"

// commit is the checked out commit, with a plus if the tree differs from it.
func commit(ctx context.Context) string {
	b, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return unknown
	}
	id := strings.TrimSpace(string(b))
	if b, err := exec.CommandContext(ctx, "git", "status", "--porcelain").Output(); err != nil || len(b) > 0 {
		id += "+"
	}
	return id
}

func processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo") // other systems have none
	if m := regexp.MustCompile(`(?m)^model name\s*:\s*(.+)$`).FindSubmatch(b); m != nil {
		return string(m[1])
	}
	return runtime.GOARCH
}

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return unknown
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

// postgresVersion asks the program that runs, since several may be installed.
func postgresVersion(ctx context.Context, postmaster int) string {
	program, err := os.Readlink(filepath.Join("/proc", fmt.Sprint(postmaster), "exe"))
	if err != nil {
		return unknown
	}
	b, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return unknown
	}
	fields := strings.Fields(strings.TrimPrefix(string(b), "postgres (PostgreSQL)"))
	if len(fields) == 0 {
		return unknown
	}
	return fields[0]
}

// freeAddress is a loopback address that nobody listens on now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("bench.freeAddress: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// profileName is a file name for a profile of a cell.
func profileName(k key, kind string) string {
	return strings.NewReplacer("/", "-", " ", "-", "=", "").Replace(k.String()) + "." + kind + ".pb.gz"
}
