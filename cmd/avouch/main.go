// Command avouch runs Avouch servers and is what people use them with: operators, owners of agents, and auditors.
//
// Flags, variables, files and exit codes are public from the first release. Exit codes: 0 well, 1 the thing asked about
// does not hold (denied, tampered, unhealthy), 2 wrong usage, 3 the environment lacks something.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program, whatever it is at
	os.Exit(run(ctx, os.Args[1:]))
}
