package main

import (
	"fmt"
	"net/netip"
	"time"
)

// feed gives a connection its next request, or nil if there are no more: then the measurement ends early.
type feed func(conn int) []byte

// always sends each connection the same request over and over, the requests dealt out to connections in turn.
func always(requests ...[]byte) feed {
	return func(conn int) []byte { return requests[conn%len(requests)] }
}

// once sends each request once, whichever connection is free. A feed is used by one thread only.
func once(requests [][]byte) feed {
	next := 0
	return func(int) []byte {
		if next == len(requests) {
			return nil
		}
		next++
		return requests[next-1]
	}
}

// inTurn sends the requests round and round, whichever connection is free.
func inTurn(requests ...[]byte) feed {
	next := -1
	return func(int) []byte {
		next = (next + 1) % len(requests)
		return requests[next]
	}
}

// load is what the generator does once.
type load struct {
	targets []netip.AddrPort // connections are dealt out to them in turn
	conns   int
	warm    feed // before the measurement; nil: as feed
	feed    feed
	warmFor time.Duration
	runFor  time.Duration
	begin   func() // called when the measurement begins and ends, on the generator's own thread
	end     func()
	want    int // the status that answers should have
}

// tally is what the generator saw while it measured.
type tally struct {
	elapsed  time.Duration
	requests int
	allowed  int // of the requests, those whose answer says so
	broken   int // connections that ended although they should not have
	bytes    int // of the body of the last answer
	statuses map[int]int
	latency  *histogram
	odd      string // the beginning of the first answer whose status is not the wanted one
}

func newTally() tally { return tally{statuses: map[int]int{}, latency: newHistogram()} }

func (t *tally) perSecond() float64 {
	if t.elapsed <= 0 {
		return 0
	}
	return float64(t.requests) / t.elapsed.Seconds()
}

// request is an HTTP/1.1 request as bytes, with further lines of its head. A request without a body is a GET.
func request(method, host, path, key, body string, more ...string) []byte {
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, host)
	for _, line := range more {
		head += line + "\r\n"
	}
	if key != "" {
		head += "Authorization: Bearer " + key + "\r\n"
	}
	if method != "GET" {
		head += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	return []byte(head + "\r\n" + body)
}
