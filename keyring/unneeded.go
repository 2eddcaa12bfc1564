package keyring

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/tenantdb"
)

// The versions of an organisation's keys that a rotation leaves behind are destroyed when nothing has needed them for as long as backups
// are kept. How far a rotation is, is a row of the database. That nothing needs them is said in the key store too, by who has looked: a
// row that somebody wrote ends no key early.
//
//	tenants/<tenant>/unneeded   for each rotation, the versions that it made, and since when nothing has needed those before
//
// What the wrapper finds in it, the time in microseconds, one after the other:
//
//	magic (2) | wrap's version (4), subjects' version (4), since (8) | ...
const (
	unneededFile  = "unneeded"
	unneededMagic = "U\x01"
	unneededSize  = 16
	unneededMost  = 250 // AWS wraps 4,096 bytes and no more
)

// Unneeded says since when nothing has needed the versions before these.
type Unneeded struct {
	Wrap, Subjects uint32
	Since          time.Time
}

func unneededBytes(all []Unneeded) []byte {
	b := []byte(unneededMagic)
	for _, u := range all {
		b = binary.BigEndian.AppendUint32(b, u.Wrap)
		b = binary.BigEndian.AppendUint32(b, u.Subjects)
		b = binary.BigEndian.AppendUint64(b, uint64(u.Since.UnixMicro())) //nolint:gosec // parseUnneeded takes it back
	}
	return b
}

func parseUnneeded(b []byte) (all []Unneeded, err error) {
	if b == nil {
		return nil, nil
	}
	if len(b) < len(unneededMagic) || string(b[:len(unneededMagic)]) != unneededMagic || (len(b)-len(unneededMagic))%unneededSize != 0 {
		return nil, ErrDamaged
	}
	for part := range slices.Chunk(b[len(unneededMagic):], unneededSize) {
		since := time.UnixMicro(int64(binary.BigEndian.Uint64(part[8:]))).UTC() //nolint:gosec // as it was written
		all = append(all, Unneeded{binary.BigEndian.Uint32(part), binary.BigEndian.Uint32(part[4:]), since})
	}
	return all, nil
}

// Unneeded is since when the key store has said that nothing needs the versions before these; zero if it does not.
func (r *Ring) Unneeded(ctx context.Context, t tenantdb.TenantID, wrap, subjects uint32) (since time.Time, err error) {
	all, err := r.unneeded(ctx, t)
	if err != nil {
		return time.Time{}, fmt.Errorf("keyring.Unneeded: %w", err)
	}
	for _, u := range all {
		if u.Wrap == wrap && u.Subjects == subjects {
			since = u.Since
		}
	}
	return since, nil
}

func (r *Ring) unneeded(ctx context.Context, t tenantdb.TenantID) ([]Unneeded, error) {
	b, err := r.note(ctx, t, unneededFile)
	if err != nil {
		return nil, err
	}
	return parseUnneeded(b)
}

// NoteUnneeded has the key store say so from then on, or, of a zero time, that something needs them. What it says and cannot be read is
// forgotten.
func (r *Ring) NoteUnneeded(ctx context.Context, t tenantdb.TenantID, u Unneeded) error {
	if err := r.noteUnneeded(ctx, t, u); err != nil {
		return fmt.Errorf("keyring.NoteUnneeded: %w", err)
	}
	return nil
}

func (r *Ring) noteUnneeded(ctx context.Context, t tenantdb.TenantID, u Unneeded) error {
	release, err := r.store.lock(ctx, t, lockOf(unneededFile))
	if err != nil {
		return err
	}
	defer release()
	all, err := r.unneeded(ctx, t)
	damaged := errors.Is(err, ErrDamaged) || errors.Is(err, ErrSealed)
	if err != nil && !damaged {
		return err
	}
	before := len(all)
	all = slices.DeleteFunc(all, func(o Unneeded) bool { return o.Wrap == u.Wrap && o.Subjects == u.Subjects })
	if !u.Since.IsZero() {
		all = append(all, u)
	} else if len(all) == before && !damaged {
		return nil
	}
	if all, err = r.bounded(t, all); err != nil {
		return err
	}
	return r.setNote(ctx, t, unneededFile, unneededBytes(all))
}

// bounded leaves out what there is no room for: first the oldest of which nothing is left to destroy, and then the newest, whose time begins
// anew when there is room. If the others gave way to it, none would ever end.
func (r *Ring) bounded(t tenantdb.TenantID, all []Unneeded) ([]Unneeded, error) {
	if len(all) <= unneededMost {
		return all, nil
	}
	first := map[Use]uint32{}
	for _, use := range []Use{UseWrap, UseSubjects} {
		kept, err := r.store.kept(keyName{tenant: t, use: use})
		if err != nil {
			return nil, err
		}
		if len(kept) > 0 {
			first[use] = kept[0]
		}
	}
	over := len(all) - unneededMost
	all = slices.DeleteFunc(all, func(u Unneeded) bool {
		gone := over > 0 && u.Wrap <= first[UseWrap] && u.Subjects <= first[UseSubjects]
		if gone {
			over--
		}
		return gone
	})
	return all[:min(len(all), unneededMost)], nil
}
