package e2e

import (
	"os"
	"testing"
)

// mostBytes is what the program's file may have: it is to be carried everywhere, and what is in it is mapped by every server.
const mostBytes = 40_000_000

// TestProgramSize holds the program to its limit, as it is shipped. What it is made of, `go tool nm -size -sort size` says of a build
// with symbols; a function that is there a hundred times is generic code, compiled for each of its types.
func TestProgramSize(t *testing.T) {
	t.Parallel()
	file, err := os.Stat(program(t))
	must(t, err)
	t.Logf("%.1f of %.1f MB", float64(file.Size())/1e6, mostBytes/1e6)
	if file.Size() > mostBytes {
		t.Errorf("the program has %d bytes; %d are the limit", file.Size(), mostBytes)
	}
}
