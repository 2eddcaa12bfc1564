//go:build !unix

package main

import "os"

// terminalWidth is 0: elsewhere nothing is taken for a terminal, and output is plain.
func terminalWidth(*os.File) int { return 0 }
