package devpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// major reads which PostgreSQL made the cluster; 0 means that there is none yet.
func (p place) major() (int, error) {
	b, err := os.ReadFile(filepath.Join(p.data(), "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("devpg.Start: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("devpg.Start: %s/PG_VERSION: %w", p.data(), err)
	}
	return n, nil
}

// binariesFor finds the server for a cluster made by the given major version; 0 means a new cluster.
func (c Config) binariesFor(major int) (Binaries, error) {
	b := c.Binaries
	if b.Dir != "" && b.Major == 0 {
		probed, err := probe(b.Dir)
		if err != nil {
			return b, fmt.Errorf("devpg.Start: %w", err)
		}
		b = probed
	}
	if b.Dir == "" {
		var err error
		if b, err = find(major); err != nil && major != 0 {
			return b, fmt.Errorf("the data in %s was made by PostgreSQL %d: %w", c.Dir, major, err)
		} else if err != nil {
			return b, err
		}
	}
	if major != 0 && b.Major != major {
		return b, fmt.Errorf("devpg.Start: the data in %s was made by PostgreSQL %d, and %s is %d", c.Dir, major, b.Dir, b.Major)
	}
	return b, nil
}

// initdb makes the cluster, under another name until it is whole: a crash on the way leaves no half of one.
func (c Config) initdb(ctx context.Context, p place, b Binaries, acc account) error {
	fresh := p.file("data.new")
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("devpg.initdb: %w", err)
	}
	if err := errors.Join(os.Mkdir(fresh, 0o700), acc.own(fresh)); err != nil {
		return fmt.Errorf("devpg.initdb: %w", err)
	}
	// Text sorts by code point everywhere, so that an order does not depend on the C library of a machine.
	out, err := runInitdb(ctx, b, acc, fresh, c.NoFSync, "C.UTF-8")
	if err != nil && strings.Contains(out, "locale") {
		out, err = runInitdb(ctx, b, acc, fresh, c.NoFSync, "C")
	}
	if err != nil {
		return fmt.Errorf("devpg.initdb: %w: %s", err, strings.TrimSpace(out))
	}
	if err := os.Rename(fresh, p.data()); err != nil {
		return fmt.Errorf("devpg.initdb: %w", err)
	}
	return syncDir(p.dir)
}

func runInitdb(ctx context.Context, b Binaries, acc account, dir string, noSync bool, ctype string) (string, error) {
	cmd, names, closeDirs, err := command(b.path("initdb"), acc, dir)
	if err != nil {
		return "", err
	}
	defer closeDirs()
	cmd.Args = append(cmd.Args, "-D", names[0], "-U", Superuser, "--encoding=UTF8", "--locale=C", "--lc-ctype="+ctype,
		"--data-checksums", "--auth-local=peer", "--auth-host=reject", "--no-instructions")
	if noSync {
		cmd.Args = append(cmd.Args, "--no-sync")
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	dieWithParent(cmd.SysProcAttr, syscall.SIGKILL)
	proc, err := start(cmd)
	if err != nil {
		return "", err
	}
	select {
	case <-proc.done:
	case <-ctx.Done():
		_ = syscall.Kill(-proc.pid, syscall.SIGKILL) // its session; it may have ended this moment
		<-proc.done
		return "", ctx.Err()
	}
	return out.String(), proc.err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("devpg.initdb: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("devpg.initdb: %w", err)
	}
	return nil
}
