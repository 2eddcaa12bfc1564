// Package pgfault stands between a server and its PostgreSQL and does to replies what networks do: loses them after the
// database has done what they say, delays them, and delivers them twice. Tests use it to show that nothing acknowledged
// is lost and nothing refused appears.
//
// It knows just enough of the wire protocol (PostgreSQL documentation, "Message Formats") to tell where a reply ends: at
// ReadyForQuery.
package pgfault

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is what happens to a reply.
type Fault int

// The faults.
const (
	Pass      Fault = iota
	Lose            // the connection ends; the reply is never seen
	Delay           // the reply comes after Proxy.Late
	Duplicate       // the reply comes twice
	Truncate        // half the reply comes, then the connection ends
)

// Proxy relays connections to a Unix socket.
type Proxy struct {
	Late time.Duration // what Delay adds; 8 s unless set before the first connection

	socket   string // where the database listens
	dir      string
	listener net.Listener
	choose   atomic.Pointer[func(tag string) Fault]
	mu       sync.Mutex
	open     map[net.Conn]bool
	faults   atomic.Int64
}

// Listen makes a proxy for the database whose socket lies in upstream.
func Listen(upstream string) (*Proxy, error) {
	dir, err := os.MkdirTemp("", "pgfault")
	if err != nil {
		return nil, fmt.Errorf("pgfault.Listen: %w", err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		return nil, fmt.Errorf("pgfault.Listen: %w", err)
	}
	p := &Proxy{Late: 8 * time.Second, socket: filepath.Join(upstream, ".s.PGSQL.5432"), dir: dir, listener: l, open: map[net.Conn]bool{}}
	p.Choose(nil)
	go p.accept()
	return p, nil
}

// Dir is what a client gives as host.
func (p *Proxy) Dir() string { return p.dir }

// Faults is how many replies have met a fault.
func (p *Proxy) Faults() int64 { return p.faults.Load() }

// Choose sets who decides what happens to a reply; tag is its last CommandComplete ("COMMIT", "SELECT 2"), empty if it
// has none. Nil passes all.
func (p *Proxy) Choose(f func(tag string) Fault) {
	if f == nil {
		f = func(string) Fault { return Pass }
	}
	p.choose.Store(&f)
}

// Close ends all connections and the proxy.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.Close()
	}
	os.RemoveAll(p.dir)
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		database, err := net.Dial("unix", p.socket)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.open[client], p.open[database] = true, true
		p.mu.Unlock()
		end := sync.OnceFunc(func() {
			client.Close()
			database.Close()
			p.mu.Lock()
			delete(p.open, client)
			delete(p.open, database)
			p.mu.Unlock()
		})
		go func() {
			defer end()
			io.Copy(database, client)
		}()
		go func() {
			defer end()
			p.replies(client, bufio.NewReaderSize(database, 64<<10))
		}()
	}
}

// replies relays what the database says, reply by reply. The first one, of the start-up, passes.
func (p *Proxy) replies(client io.Writer, database *bufio.Reader) {
	for first := true; ; first = false {
		reply, tag, err := readReply(database, client, first)
		if err != nil {
			return
		}
		fault := Pass
		if !first {
			fault = (*p.choose.Load())(tag)
		}
		if fault != Pass {
			p.faults.Add(1)
		}
		switch fault {
		case Lose:
			return
		case Truncate:
			client.Write(reply[:len(reply)/2])
			return
		case Delay:
			time.Sleep(p.Late)
		case Duplicate:
			reply = append(reply, reply...)
		}
		if _, err := client.Write(reply); err != nil {
			return
		}
	}
}

// readReply reads messages up to ReadyForQuery. During start-up the client must answer in between, so those messages
// are relayed at once.
func readReply(r *bufio.Reader, client io.Writer, startup bool) (reply []byte, tag string, err error) {
	for {
		var head [5]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, "", err
		}
		n := int(binary.BigEndian.Uint32(head[1:])) - 4
		if n < 0 || n > 64<<20 {
			return nil, "", fmt.Errorf("pgfault: a message of %d bytes", n)
		}
		message := append(head[:], make([]byte, n)...)
		if _, err := io.ReadFull(r, message[5:]); err != nil {
			return nil, "", err
		}
		if head[0] == 'C' {
			tag = string(message[5 : len(message)-1])
		}
		if startup {
			if _, err := client.Write(message); err != nil {
				return nil, "", err
			}
		} else {
			reply = append(reply, message...)
		}
		if head[0] == 'Z' {
			return reply, tag, nil
		}
	}
}
