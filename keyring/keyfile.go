package keyring

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

// The files of an operator's own: the platform key, and the pepper of API key digests where it has one of its own. A pepper may lie
// in its file as it is, or wrapped as the keys of the key store are, for an installation whose KMS holds the only secret.

var pepperBinding = Binding{Tenant: tenantdb.Platform, Item: "pepper"}

// LoadPepper reads a pepper of its own from the value of AVOUCH_API_KEY_PEPPER, or, where that is empty, from a file; empty if
// neither is given. Config.Pepper takes it. w unwraps a file that is wrapped.
func LoadPepper(ctx context.Context, w KeyWrapper, value secret.String, file string) (secret.String, error) {
	if !value.IsZero() || file == "" {
		return value, nil
	}
	text, _, err := readPepper(ctx, w, file)
	if err != nil {
		return secret.String{}, fmt.Errorf("keyring.LoadPepper: %w", err)
	}
	defer text.Clear()
	if _, err := ParsePlatform(text.Expose()); err != nil { // says which file it is
		return secret.String{}, fmt.Errorf("keyring.LoadPepper: %s: %w", file, err)
	}
	return secret.Text(string(text.Expose())), nil
}

// readPepper is the lines of a file, and what opened it; nil if nothing had to.
func readPepper(ctx context.Context, w KeyWrapper, file string) (secret.Bytes, *Wrapping, error) {
	text, err := secret.ReadFile(file, maxPlatformText)
	if err != nil {
		return secret.Bytes{}, nil, err
	}
	if !strings.HasPrefix(string(text), keyFileMagic) {
		return secret.Own(text), nil, nil
	}
	wrapped, err := decodeKeyFile(text)
	if err != nil {
		return secret.Bytes{}, nil, fmt.Errorf("%s: %w", file, err)
	}
	if w == nil {
		return secret.Bytes{}, nil, fmt.Errorf("%s is wrapped by %s, and this process was given nothing that opens it: %w", file, wrapped.KeyID, ErrSealed)
	}
	plain, err := w.Unwrap(ctx, wrapped, pepperBinding)
	if err != nil {
		return secret.Bytes{}, nil, fmt.Errorf("%s: %w", file, err)
	}
	return plain, &Wrapping{wrapped.KeyID, wrapped.KeyVersion}, nil
}

// AddPepper puts a new version of the pepper into a file, which may be missing, and says which it is. With wrap, the file is wrapped from
// now on; one that is stays so.
func AddPepper(ctx context.Context, w KeyWrapper, wrap bool, file string) (version uint32, err error) {
	err = editing(ctx, file, func() error {
		var before secret.Bytes
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			text, by, err := readPepper(ctx, w, file)
			if err != nil {
				return err
			}
			defer text.Clear()
			before, wrap = text, wrap || by != nil
		}
		text, v, err := withNewVersion(before)
		if err != nil {
			return err
		}
		defer text.Clear()
		version = v
		if !wrap {
			return putFile(file, text.Expose())
		}
		return putPepper(ctx, w, file, text)
	})
	if err != nil {
		return 0, fmt.Errorf("keyring.AddPepper: %w", err)
	}
	return version, nil
}

// RewrapPepper wraps a pepper's file under the newest version of a wrapper's key. again is false where that is done, or nothing wraps
// the file.
func RewrapPepper(ctx context.Context, w KeyWrapper, file string) (again bool, err error) {
	newest, err := w.Describe(ctx)
	if err == nil {
		err = editing(ctx, file, func() error {
			text, by, err := readPepper(ctx, w, file)
			if err != nil {
				return err
			}
			defer text.Clear()
			again = by != nil && *by != Wrapping{newest.KeyID, newest.Version}
			if !again {
				return nil
			}
			return putPepper(ctx, w, file, text)
		})
	}
	if err != nil {
		return false, fmt.Errorf("keyring.RewrapPepper: %w", err)
	}
	return again, nil
}

// PepperWrapping says what opens a pepper's file; false if it is not wrapped.
func PepperWrapping(file string) (Wrapping, bool, error) {
	text, err := secret.ReadFile(file, maxPlatformText)
	if err != nil {
		return Wrapping{}, false, fmt.Errorf("keyring.PepperWrapping: %w", err)
	}
	defer clear(text)
	if !strings.HasPrefix(string(text), keyFileMagic) {
		return Wrapping{}, false, nil
	}
	w, err := decodeKeyFile(text)
	if err != nil {
		return Wrapping{}, false, fmt.Errorf("keyring.PepperWrapping: %s: %w", file, err)
	}
	return Wrapping{w.KeyID, w.KeyVersion}, true, nil
}

func putPepper(ctx context.Context, w KeyWrapper, file string, text secret.Bytes) error {
	wrapped, err := w.Wrap(ctx, text, pepperBinding)
	if err != nil {
		return err
	}
	if err := proves(ctx, w, wrapped, pepperBinding, text); err != nil {
		return err
	}
	return putFile(file, encodeKeyFile(wrapped))
}

// AddPlatformKey puts a new random version of the platform key into its file, and says which it is. The versions before stay: what they
// wrapped opens until Rewrap has been through. When it returns, the key survives a power cut.
func AddPlatformKey(ctx context.Context, file string) (version uint32, err error) {
	err = editing(ctx, file, func() error {
		before, err := secret.ReadFile(file, maxPlatformText)
		if err != nil {
			return err
		}
		defer clear(before)
		text, v, err := withNewVersion(secret.Own(before))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		defer text.Clear()
		version = v
		return putFile(file, text.Expose())
	})
	if err != nil {
		return 0, fmt.Errorf("keyring.AddPlatformKey: %w", err)
	}
	return version, nil
}

// withNewVersion is a text of keys with one more, which is random, in a line of its own behind them.
func withNewVersion(before secret.Bytes) (secret.Bytes, uint32, error) {
	version := uint32(1)
	if !before.IsZero() {
		p, err := ParsePlatform(before.Expose())
		if err != nil {
			return secret.Bytes{}, 0, err
		}
		version = p.newest + 1
	}
	if version > 0xffff {
		return secret.Bytes{}, 0, errors.New("there are 65,535 versions, and no more")
	}
	key := make([]byte, keySize)
	defer clear(key)
	rand.Read(key)
	text := slices.Clone(before.Expose())
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	text = base64.StdEncoding.AppendEncode(fmt.Appendf(text, "%d:", version), key)
	return secret.Own(append(text, '\n')), version, nil
}

// editing holds a lock beside a file while it is changed, so that of two who add a version neither takes the other's away.
func editing(ctx context.Context, file string, change func() error) error {
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := flock(ctx, dir); err != nil {
		return err
	}
	return change()
}

// putFile replaces a file, whole or not at all, and leaves it to whom it belonged: an operator is not the user that servers run as.
func putFile(file string, content []byte) error {
	if to, err := filepath.EvalSymlinks(file); err == nil {
		file = to
	}
	dir := filepath.Dir(file)
	temp, err := writeTemp(dir, ".new-key-*", content)
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err == nil {
		if owner, ok := info.Sys().(*syscall.Stat_t); ok {
			err = os.Lchown(temp, int(owner.Uid), int(owner.Gid))
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, remove(temp))
	}
	if err := os.Rename(temp, file); err != nil {
		return errors.Join(err, remove(temp))
	}
	return syncDir(dir)
}
