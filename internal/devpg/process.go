package devpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// process is a running postmaster that this process started.
type process struct {
	pid   int
	asked atomic.Bool   // we made it end
	done  chan struct{} // closed when it has ended
	err   error         // then, how
}

// command makes a command that runs as the server's user. When that is another user than ours it may be unable to enter
// the directories that lead to the cluster, /root for one; so it gets them open, and reaches them as descriptors.
func command(program string, acc account, dirs ...string) (cmd *exec.Cmd, names []string, closeDirs func(), err error) {
	cmd = exec.Command(program)
	cmd.Dir = "/"
	// Nothing of our own environment, which may hold the platform key, for the server's user to read.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	if libs := os.Getenv("LD_LIBRARY_PATH"); libs != "" {
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+libs)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // the terminal's ^C is ours to handle
	closeDirs = func() {
		for _, f := range cmd.ExtraFiles {
			f.Close()
		}
	}
	if !acc.switched {
		return cmd, dirs, closeDirs, nil
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: acc.uid, Gid: acc.gid}
	for i, dir := range dirs {
		f, err := os.Open(dir)
		if err != nil {
			closeDirs()
			return nil, nil, nil, err
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		names = append(names, "/proc/self/fd/"+strconv.Itoa(3+i))
	}
	return cmd, names, closeDirs, nil
}

// start runs a command and stays on the thread that began it: the kernel sends the parent's death signal when that
// thread ends, which for a Go program may be long before the process does.
func start(cmd *exec.Cmd) (*process, error) {
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	return p, <-started
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// end asks the postmaster to stop fast and cleanly, and after patience, or when ctx ends, less and less kindly.
func (p *process) end(ctx context.Context, patience time.Duration) error {
	p.asked.Store(true)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		_ = syscall.Kill(p.pid, sig) // it may have ended by itself
		timer := time.NewTimer(patience)
		select {
		case <-p.done:
			timer.Stop()
			if sig != syscall.SIGINT {
				return fmt.Errorf("devpg: PostgreSQL did not stop until it was sent %s", sig)
			}
			return nil
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			ctx, patience = context.WithoutCancel(ctx), 2*time.Second
		}
	}
	<-p.done
	return errors.New("devpg: PostgreSQL had to be killed")
}

// postmaster reads who PostgreSQL's own lock file says runs the cluster, and whether it takes connections.
func (p place) postmaster() (pid int, ready bool) {
	b, err := os.ReadFile(filepath.Join(p.data(), "postmaster.pid"))
	if err != nil {
		return 0, false
	}
	lines := strings.Split(string(b), "\n")
	pid, _ = strconv.Atoi(strings.TrimSpace(lines[0])) // half written: nobody yet
	return pid, len(lines) > 7 && strings.TrimSpace(lines[7]) == "ready"
}

// awaitReady waits until the postmaster takes connections.
func (p place) awaitReady(ctx context.Context, proc *process) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-proc.done:
			return fmt.Errorf("devpg.Start: PostgreSQL ended (%w); its last words:\n%s", endOf(proc), tail(p.log()))
		case <-ctx.Done():
			_ = proc.end(ctx, 2*time.Second) // the error that counts is why it was not ready
			return fmt.Errorf("devpg.Start: PostgreSQL was not ready in time: %w; its last words:\n%s", ctx.Err(), tail(p.log()))
		case <-tick.C:
			if pid, ready := p.postmaster(); ready && pid == proc.pid {
				return nil
			}
		}
	}
}

func endOf(proc *process) error {
	if proc.err != nil {
		return proc.err
	}
	return errors.New("exit status 0")
}

// tail returns the last lines of the log.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 4096
	if st, err := f.Stat(); err == nil && st.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd) // a regular file, and long enough
	}
	b, _ := io.ReadAll(io.LimitReader(f, most)) // what can be read is better than nothing
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
}

// endLeftovers ends whatever an earlier process has left running in the data directory: a postmaster, which is stopped
// cleanly, or the backends of one that was killed, whose shared memory a new one would wait for.
func (p place) endLeftovers(ctx context.Context) error {
	pidFile := filepath.Join(p.data(), "postmaster.pid")
	if _, err := os.Lstat(pidFile); errors.Is(err, os.ErrNotExist) {
		return nil // PostgreSQL removes it last of all
	}
	for _, sig := range []syscall.Signal{0, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		pids := processesIn(p.data())
		parent, _ := p.postmaster()
		switch {
		case sig == 0 && len(pids) > 0:
			continue
		case sig == syscall.SIGINT && slices.Contains(pids, parent):
			pids = []int{parent}
		case sig == syscall.SIGINT:
			continue
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, sig) // gone is what we want
		}
		if gone, err := p.awaitGone(ctx, 10*time.Second); err != nil || gone {
			return errors.Join(err, p.dropStalePid(pidFile))
		}
	}
	return fmt.Errorf("devpg.Start: processes %v of an earlier PostgreSQL in %s do not end", processesIn(p.data()), p.dir)
}

func (p place) awaitGone(ctx context.Context, patience time.Duration) (bool, error) {
	for deadline := time.Now().Add(patience); len(processesIn(p.data())) > 0; {
		if err := ctx.Err(); err != nil || time.Now().After(deadline) {
			return false, err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true, nil
}

// dropStalePid removes a lock file whose number some unrelated process has by now: PostgreSQL would take that one for
// its predecessor and refuse to start. A number that nobody has it deals with itself.
func (p place) dropStalePid(pidFile string) error {
	pid, _ := p.postmaster()
	if pid <= 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return nil
	}
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("devpg.Start: %w", err)
	}
	return nil
}
