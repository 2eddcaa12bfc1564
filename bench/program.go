package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ready is the line that a program prints when it can be used. `avouch serve` and our hello say only where they are.
type ready struct {
	URL          string `json:"url"`
	TenantID     string `json:"tenant_id,omitempty"`
	OwnerKey     string `json:"owner_key,omitempty"`
	ServiceOwner string `json:"service_owner_key,omitempty"`
	ServiceKey   string `json:"service_key,omitempty"`
	DatabaseURL  string `json:"database_url,omitempty"`
}

// program is a started program that has said that it is ready.
type program struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.Closer
	log    string
	ready  ready
	target netip.AddrPort
	took   time.Duration // from exec to the ready line
	exited chan error
}

// readyWithin is how long a program may take: `avouch dev` makes a database first.
const readyWithin = 90 * time.Second

// start runs a program and waits for its ready line. What it logs goes to a file in dir.
func start(ctx context.Context, dir, name string, env []string, bin string, args ...string) (*program, error) {
	p := &program{name: name, cmd: exec.Command(bin, args...), log: filepath.Join(dir, name+".log"), exited: make(chan error, 1)}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("bench.start: %w", err)
	}
	defer log.Close()
	p.cmd.Env, p.cmd.Stderr = append(os.Environ(), env...), log
	// A signal from the terminal is for us: we stop what we started, in the right order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, outW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("bench.start: %w", err)
	}
	p.cmd.Stdout = outW
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("bench.start: %w", err)
	}
	began := time.Now()
	err = p.cmd.Start()
	outW.Close()
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("bench.start: %w", err)
	}
	go func() { p.exited <- p.cmd.Wait() }()
	line := make(chan string, 1)
	go func() {
		defer out.Close()
		r := bufio.NewReader(out)
		s, _ := r.ReadString('\n') // a program that ends instead is seen as that
		line <- s
		_, _ = io.Copy(io.Discard, r) // nothing else is expected, and nothing should stall for it
	}()
	select {
	case s := <-line:
		p.took = time.Since(began)
		err = p.understand(s)
	case <-time.After(readyWithin):
		err = fmt.Errorf("it was not ready within %v", readyWithin)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("bench.start: %s: %w\n%s", name, errors.Join(err, p.stop()), p.lastWords())
	}
	return p, nil
}

func (p *program) understand(line string) error {
	if err := json.Unmarshal([]byte(line), &p.ready); err != nil {
		return errors.New("what it printed is not a ready line") // without the line: it may hold keys
	}
	u, err := url.Parse(p.ready.URL)
	if err != nil {
		return fmt.Errorf("its url: %w", err)
	}
	host := u.Hostname()
	if host == "localhost" { // which `avouch dev` calls itself, and listens on both of its addresses
		host = "127.0.0.1"
	}
	if p.target, err = netip.ParseAddrPort(net.JoinHostPort(host, u.Port())); err != nil || !p.target.Addr().Is4() {
		return fmt.Errorf("its url %s has no IPv4 address", p.ready.URL)
	}
	return nil
}

func (p *program) pid() int { return p.cmd.Process.Pid }

// stopWithin is how long a program may take to end in peace.
const stopWithin = 30 * time.Second

func (p *program) stop() error {
	p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // one that has ended is what is wanted
	select {
	case err := <-p.exited:
		p.exited <- err
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() < 0 {
			return nil // ended by our signal, which hello does not catch
		}
		if err != nil {
			return fmt.Errorf("bench.stop: %s: %w", p.name, err)
		}
		return nil
	case <-time.After(stopWithin):
		_ = p.cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("bench.stop: %s did not stop within %v and was killed", p.name, stopWithin)
	}
}

// lastWords are the last lines of what the program logged.
func (p *program) lastWords() string {
	b, _ := os.ReadFile(p.log) // no log, no words
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
