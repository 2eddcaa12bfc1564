//go:build !linux

package keyring

import "errors"

// DenyDump is for Linux only.
func DenyDump() error { return errors.New("keyring.DenyDump: not supported on this system") }
