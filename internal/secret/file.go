package secret

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// ReadFile reads a file that holds a secret, and refuses one that anyone but its owner can read or write, or of more than
// most bytes. It asks the open file, not the path, so that what was checked is what is read; a link (as Kubernetes mounts
// secrets) is followed. Its errors hold nothing of what is in the file.
func ReadFile(file string, most int64) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe is refused below, and must not hang here
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", file)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o: others than its owner may use it; run chmod 600 on it", file, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		clear(b)
		return nil, fmt.Errorf("%s is longer than %d bytes", file, most)
	}
	return b, err
}
