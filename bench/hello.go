package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// hello is the subcommand that serves the baseline: what net/http alone takes to read a request and to answer a body of
// the given size. It is a process of its own, as the measured server is, and ends with its standard input.
func hello(args []string, stdin io.Reader, stdout io.Writer) error {
	f := flag.NewFlagSet("hello", flag.ContinueOnError)
	size := f.Int("size", 400, "bytes of the answer's body")
	if err := f.Parse(args); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("bench.hello: %w", err)
	}
	srv := &http.Server{Handler: helloHandler(*size), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	if err := json.NewEncoder(stdout).Encode(ready{URL: "http://" + l.Addr().String()}); err != nil {
		return fmt.Errorf("bench.hello: %w", err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, stdin) // however it ends, whoever started us is gone
		srv.Close()
	}()
	if err := <-failed; err != http.ErrServerClosed {
		return fmt.Errorf("bench.hello: %w", err)
	}
	return nil
}

func helloHandler(size int) http.Handler {
	body := bytes.Repeat([]byte("x"), size)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body) // a client that is gone needs no answer
	})
}
