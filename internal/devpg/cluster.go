package devpg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// patience is how long a server may take to stop before it is asked less kindly: a checkpoint on a slow disk is no fault.
const patience = 30 * time.Second

// ErrNotRunning says that no cluster takes connections in a directory.
var ErrNotRunning = errors.New("no running cluster")

// Cluster is a private cluster that this process runs.
type Cluster struct {
	cfg   Config
	place place
	bin   Binaries
	acc   account
	lock  *os.File

	mu      sync.Mutex
	proc    *process
	address Address
	stopped bool
	stray   []string // shared memory that killed servers may have left
}

// Start runs the cluster of cfg.Dir, making it if there is none, and returns when it takes connections. What an earlier
// process left running there is stopped first. If ctx has no deadline, the server gets five minutes to recover.
func Start(ctx context.Context, cfg Config) (*Cluster, error) { return begin(ctx, cfg, false) }

// StartDetached is Start for a cluster that outlives this process: Running finds it, and the next Start in the same
// directory ends it. Nothing else does, so the caller must see to its end.
func StartDetached(ctx context.Context, cfg Config) (Address, error) {
	c, err := begin(ctx, cfg, true)
	if err != nil {
		return Address{}, err
	}
	return c.address, c.lock.Close()
}

// Running returns the address of a cluster that runs in dir, whoever started it, or ErrNotRunning.
func Running(dir string) (Address, error) {
	p := place{dir: dir}
	pid, ready := p.postmaster()
	for _, found := range processesIn(p.data()) {
		if ready && found == pid {
			return Address{socketDir: p.socketDir()}, nil
		}
	}
	return Address{}, fmt.Errorf("devpg.Running: %s: %w", dir, ErrNotRunning)
}

// Remove deletes a cluster with all its data, after stopping what may still run there. It fails with ErrInUse while a
// process has the cluster.
func Remove(ctx context.Context, dir string) error {
	p := place{dir: dir}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	held, err := p.lock()
	if err != nil {
		return fmt.Errorf("devpg.Remove: %w", err)
	}
	defer held.Close()
	if err := p.endLeftovers(ctx); err != nil {
		return fmt.Errorf("devpg.Remove: %w", err)
	}
	p.removeStraySocketDir()
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("devpg.Remove: %w", err)
	}
	return nil
}

func begin(ctx context.Context, cfg Config, detached bool) (*Cluster, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil || cfg.Dir == "" {
		return nil, fmt.Errorf("devpg.Start: not a directory: %q", cfg.Dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("devpg.Start: %w", err)
	}
	c := &Cluster{cfg: cfg, place: place{dir: dir}}
	if c.lock, err = c.place.lock(); err != nil {
		return nil, fmt.Errorf("devpg.Start: %w", err)
	}
	if err := c.prepare(ctx); err != nil {
		c.lock.Close()
		return nil, err
	}
	if err := c.run(ctx, detached); err != nil {
		c.lock.Close()
		return nil, err
	}
	return c, nil
}

// prepare decides who runs what, and makes the cluster if there is none.
func (c *Cluster) prepare(ctx context.Context) error {
	major, err := c.place.major()
	if err != nil {
		return err
	}
	if c.bin, err = c.cfg.binariesFor(major); err != nil {
		return err
	}
	if c.acc, err = accountFor(c.place.data(), c.cfg.OSUser); err != nil {
		return err
	}
	if major != 0 {
		return nil
	}
	if err := c.acc.canRun(c.bin); err != nil {
		return err
	}
	c.cfg.Logger.Info("making a PostgreSQL cluster", "dir", c.place.dir, "postgres", c.bin.Major)
	return c.cfg.initdb(ctx, c.place, c.bin, c.acc)
}

// run starts the server and waits until it takes connections.
func (c *Cluster) run(ctx context.Context, detached bool) error {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 5*time.Minute)
		defer cancel()
	}
	if err := c.place.endLeftovers(ctx); err != nil {
		return err
	}
	socketDir, err := c.place.makeSocketDir(c.acc)
	if err != nil {
		return err
	}
	cmd, names, closeDirs, err := command(c.bin.path("postgres"), c.acc, c.place.data(), socketDir)
	if err != nil {
		return fmt.Errorf("devpg.Start: %w", err)
	}
	defer closeDirs()
	if err := c.cfg.configure(c.place, c.acc, names[1]); err != nil {
		return err
	}
	logFile, err := c.place.openLog()
	if err != nil {
		return err
	}
	defer logFile.Close()
	cmd.Args = append(cmd.Args, "-D", names[0])
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if !detached {
		dieWithParent(cmd.SysProcAttr, syscall.SIGINT)
	}
	proc, err := start(cmd)
	if err != nil {
		return errors.Join(fmt.Errorf("devpg.Start: %w", err), c.acc.canRun(c.bin))
	}
	if err := c.place.awaitReady(ctx, proc); err != nil {
		return err
	}
	c.proc, c.address = proc, Address{socketDir: socketDir}
	go c.watch(proc)
	return nil
}

// openLog begins a new log and keeps the last one.
func (p place) openLog() (*os.File, error) {
	if err := os.Rename(p.log(), p.log()+".1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("devpg.openLog: %w", err)
	}
	f, err := os.OpenFile(p.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("devpg.openLog: %w", err)
	}
	return f, nil
}

func (c *Cluster) watch(proc *process) {
	<-proc.done
	if !proc.asked.Load() {
		c.cfg.Logger.Error("PostgreSQL ended by itself", "pid", proc.pid, "how", endOf(proc).Error(), "log", c.place.log())
	}
}

// Address is where the cluster is reached; it stays the same over restarts.
func (c *Cluster) Address() Address {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.address
}

// URL returns a connection string for a role and a database, which psql, psycopg and pgx accept.
func (c *Cluster) URL(role, database string) string { return c.Address().URL(role, database) }

// Major is the major version of the server.
func (c *Cluster) Major() int { return c.bin.Major }

// PID is the process number of the postmaster, running or ended.
func (c *Cluster) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proc.pid
}

// Done is closed when the server that runs now has ended, for whatever reason. Restart begins another, with a Done of
// its own.
func (c *Cluster) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proc.done
}

// Stop stops the server cleanly, rolling back what is in progress, and gives the directory free. When ctx ends first, the
// server is ended less kindly; it will recover at its next start.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil
	}
	c.stopped = true
	var err error
	if !c.proc.ended() {
		c.stray = append(c.stray, sharedMemoryOf(processesIn(c.place.data()))...)
		err = c.proc.end(ctx, patience)
	}
	err = errors.Join(err, c.place.endLeftovers(context.WithoutCancel(ctx))) // the children of one that was killed
	c.place.removeSharedMemory(c.stray)
	c.place.removeStraySocketDir()
	return errors.Join(err, c.lock.Close())
}

// Restart stops the server if it runs, and starts it again at the same address.
func (c *Cluster) Restart(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return fmt.Errorf("devpg.Restart: %w: it was stopped", ErrNotRunning)
	}
	if !c.proc.ended() {
		if err := c.proc.end(ctx, patience); err != nil {
			c.cfg.Logger.Warn("PostgreSQL did not stop cleanly", "error", err)
		}
	}
	return c.run(ctx, false)
}

// Kill ends every process of the server at once (SIGKILL), as a crash of it would. Restart brings it back.
func (c *Cluster) Kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc.ended() {
		return nil
	}
	c.proc.asked.Store(true)
	// Stopped first, the postmaster cannot start another process between our listing them and killing them.
	if err := syscall.Kill(c.proc.pid, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("devpg.Kill: %w", err)
	}
	pids := append(processesIn(c.place.data()), c.proc.pid)
	c.stray = append(c.stray, sharedMemoryOf(pids)...)
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // one that has ended is dead enough
	}
	<-c.proc.done
	gone, err := c.place.awaitGone(context.Background(), patience)
	if err == nil && !gone {
		err = errors.New("devpg.Kill: processes remain")
	}
	return err
}
