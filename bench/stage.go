package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// stage is everything that runs while measurements are taken.
type stage struct {
	options
	self       string // this program, for the baseline
	temp       string // all that is made, removed in the end
	data       string // directory of `avouch dev`
	dev        *program
	hello      *program
	serve      *program
	postmaster int
	scene      *scene
	inside     *inside
	pprof      string // address of the server's profiler; empty for none
	progress   io.Writer
	best       float64       // pace of this run, bytes a second
	waited     time.Duration // for the host, in all
}

// spare is how many new tokens there are for each second of a cell, more than can be verified. Should they not suffice,
// the cell ends with them.
const spare = 12_000

// openStage starts a private installation with its scene, and the baseline.
func openStage(ctx context.Context, o options, progress io.Writer) (s *stage, err error) {
	s = &stage{options: o, progress: progress}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.self, err = os.Executable(); err != nil {
		return s, fmt.Errorf("bench.openStage: %w", err)
	}
	if s.bin, err = filepath.Abs(o.bin); err != nil {
		return s, fmt.Errorf("bench.openStage: %w", err)
	}
	if s.temp, err = os.MkdirTemp(o.dir, "avouch-bench-"); err != nil {
		return s, fmt.Errorf("bench.openStage: %w", err)
	}
	// The cluster of a root user runs as another one, who must be able to reach it.
	if err := os.Chmod(s.temp, 0o711); err != nil {
		return s, fmt.Errorf("bench.openStage: %w", err)
	}
	s.data = filepath.Join(s.temp, "data")
	s.say("starting a private installation")
	if s.dev, err = start(ctx, s.temp, "dev", nil, s.bin, "dev", "--dir", s.data, "--listen", "127.0.0.1:0", "--json"); err != nil {
		return s, err
	}
	if s.postmaster, err = postmasterOf(s.data); err != nil {
		return s, err
	}
	tokens := int(o.cell.Seconds() * spare)
	s.say("preparing %d organisations and %d tokens", o.tenants, tokens)
	began := time.Now()
	agents := 0 // of the vault, whose preparing takes longest
	if o.only.MatchString(cellCode) {
		agents = fetchers
	}
	if s.scene, err = prepare(ctx, s.dev, o.tenants, tokens, agents); err != nil {
		return s, fmt.Errorf("%w\n%s", err, s.dev.lastWords())
	}
	s.say("prepared in %.1f s", time.Since(began).Seconds())
	if s.inside, err = openInside(ctx, s.dev.ready.DatabaseURL); err != nil {
		return s, err
	}
	if err := s.restart(ctx); err != nil {
		return s, err
	}
	size, err := s.answerSize(ctx)
	if err != nil {
		return s, err
	}
	s.hello, err = start(ctx, s.temp, "hello", nil, s.self, "hello", "-size", fmt.Sprint(size))
	return s, err
}

func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(s.progress, format+"\n", args...)
}

// restart starts the measured server, in place of the one that runs.
func (s *stage) restart(ctx context.Context) error {
	if s.serve != nil {
		old := s.serve
		s.serve = nil
		if err := old.stop(); err != nil {
			return fmt.Errorf("%w\n%s", err, old.lastWords())
		}
	}
	env := []string{
		"AVOUCH_DATABASE_URL=" + s.dev.ready.DatabaseURL,
		"AVOUCH_PLATFORM_KEY_FILE=" + filepath.Join(s.data, "keys", "platform.key"),
		"AVOUCH_KEY_STORE=" + filepath.Join(s.data, "keystore"),
		"AVOUCH_PUBLIC_URL=" + s.dev.ready.URL,
	}
	if s.pprof != "" {
		env = append(env, "AVOUCH_PPROF_LISTEN="+s.pprof)
	}
	var err error
	s.serve, err = start(ctx, s.temp, "serve", env, s.bin, "serve", "--listen", "127.0.0.1:0", "--json")
	return err
}

// close stops everything, the database last, and removes the data.
func (s *stage) close() error {
	var err error
	if s.inside != nil {
		err = s.inside.close(context.Background())
	}
	for _, p := range []*program{s.hello, s.serve, s.dev} {
		if p != nil {
			err = errors.Join(err, p.stop())
		}
	}
	if s.temp != "" {
		err = errors.Join(err, os.RemoveAll(s.temp))
	}
	return err
}

// answerSize is the size of an answer to a verification, for the baseline.
func (s *stage) answerSize(ctx context.Context) (int, error) {
	c := cell{name: "probe", conns: 1, allowed: true, want: 200}
	one := s.scene.verify(s.scene.service, s.scene.agents[0].Token, capability)
	t, err := drive(ctx, load{targets: []netip.AddrPort{s.serve.target}, conns: 1, want: c.want, feed: once([][]byte{one}), runFor: 10 * time.Second})
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, s.serve.lastWords())
	}
	if wrong := c.wrong(&t); wrong != "" {
		return 0, fmt.Errorf("bench.answerSize: %s", wrong)
	}
	return t.bytes, nil
}

// run measures one cell once.
func (s *stage) run(ctx context.Context, c cell) (r result, err error) {
	if c.fresh {
		if err := s.restart(ctx); err != nil {
			return r, err
		}
	}
	if c.roomy {
		defer func() { // after what runs beside it has ended
			if err == nil {
				err = s.restart(ctx)
			}
		}()
	}
	if c.before != nil {
		if err := c.before(s.scene, ctx, "http://"+s.serve.target.String()); err != nil {
			return r, err
		}
	}
	l := load{conns: c.conns, feed: c.feed(s.scene), warmFor: s.warm, runFor: s.cell, want: c.want}
	if c.warm != nil {
		l.warm = c.warm(s.scene)
	}
	if c.slow {
		l.runFor *= 4
	}
	if c.fresh {
		l.warmFor *= 2 // a process that has just started has more to get used to
	}
	asked := []*program{s.hello, s.serve, s.dev}[min(1, c.servers) : c.servers+1]
	var pids []int
	for _, p := range asked {
		l.targets, pids = append(l.targets, p.target), append(pids, p.pid())
	}
	var before, after cpuTimes
	l.begin = func() { before = s.times(pids) }
	l.end = func() { after, r.Memory = s.times(pids), memory(pids[0]) }
	runtime.GC() // now rather than while it shares the machine
	if c.beside != nil {
		chore := c.beside(s.scene).run(ctx, "http://"+s.serve.target.String())
		defer func() {
			var failed error
			if r.Beside, failed = chore.stop(); failed != nil {
				r.Wrong = "beside it: " + failed.Error()
			}
		}()
	}
	t, err := drive(ctx, l)
	if err != nil {
		return r, fmt.Errorf("%s: %w\n%s", c.key(), err, s.serve.lastWords())
	}
	r.fill(c, &t, before, after)
	return r, nil
}

func (s *stage) times(pids []int) cpuTimes {
	return cpuTimes{processTime(pids), clusterTime(s.postmaster), processTime([]int{os.Getpid()})}
}
