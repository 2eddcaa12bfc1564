package e2e

import (
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// zone is what a name server of our own knows: texts by name, and nothing else.
type zone struct {
	mu    sync.Mutex
	texts map[string]string
}

// nameServer serves a zone on a loopback address.
func nameServer(t testing.TB) (z *zone, addr string) {
	t.Helper()
	z = &zone{texts: map[string]string{}}
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for b := make([]byte, 1500); ; {
			n, from, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			if out, err := z.answer(b[:n]); err == nil {
				l.WriteTo(out, from)
			}
		}
	}()
	return z, l.LocalAddr().String()
}

// say puts a text at a name; an empty one takes it away.
func (z *zone) say(name, text string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.texts[name+"."] = text; text == "" {
		delete(z.texts, name+".")
	}
}

func (z *zone) answer(asked []byte) ([]byte, error) {
	var p dnsmessage.Parser
	head, err := p.Start(asked)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	z.mu.Lock()
	text, there := z.texts[strings.ToLower(q.Name.String())]
	z.mu.Unlock()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: head.ID, Response: true, Authoritative: true, RecursionDesired: head.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	if !there || q.Type != dnsmessage.TypeTXT {
		m.RCode = dnsmessage.RCodeNameError
		return m.Pack()
	}
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: &dnsmessage.TXTResource{TXT: []string{text}},
	}}
	return m.Pack()
}
