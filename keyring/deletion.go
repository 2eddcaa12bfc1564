package keyring

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/tenantdb"
)

// An organisation's keys are destroyed some time after it was deleted. That it was is a row of the database, and whoever can write
// there, or restores an older backup of it, must not be able to destroy what nothing brings back. So it is said in the key store too,
// beside the keys that are to go, wrapped as they are: by somebody with the platform key, for this organisation and this deletion.
//
//	tenants/<tenant>/deletion        which deletion, since when that is said here, and whether it was taken back
//	tenants/<tenant>/deletion.lock   who deletes, restores or destroys holds this one (note.go)
//
// What the platform's wrapper finds in it, times in microseconds:
//
//	magic (2) | 0, or 1 if it was taken back | when it was deleted (8) | since when that is said (8)
const (
	deletionFile  = "deletion"
	deletionMagic = "D\x01"
)

// Deletion is what the key store says of an organisation's deletion.
type Deletion struct {
	At        time.Time // of the deletion, which it names; zero: it says nothing
	Since     time.Time // when it was said here, which may be later
	TakenBack bool
}

func (d Deletion) bytes() []byte {
	b := append([]byte(deletionMagic), 0)
	if d.TakenBack {
		b[len(deletionMagic)] = 1
	}
	b = binary.BigEndian.AppendUint64(b, uint64(d.At.UnixMicro()))
	return binary.BigEndian.AppendUint64(b, uint64(d.Since.UnixMicro()))
}

func parseDeletion(b []byte) (d Deletion, err error) {
	const header = len(deletionMagic) + 1
	if len(b) != header+16 || string(b[:len(deletionMagic)]) != deletionMagic || b[header-1] > 1 {
		return d, ErrDamaged
	}
	at := func(b []byte) time.Time { return time.UnixMicro(int64(binary.BigEndian.Uint64(b))).UTC() }
	return Deletion{at(b[header:]), at(b[header+8:]), b[header-1] == 1}, nil
}

// HoldDeletion waits until nobody else deletes, restores or shreds an organisation, on any server that shares the key store: as long as
// the context lasts, and for half a minute at most.
func (r *Ring) HoldDeletion(ctx context.Context, t tenantdb.TenantID) (release func(), err error) {
	if release, err = r.store.lock(ctx, t, lockOf(deletionFile)); err != nil {
		return nil, fmt.Errorf("keyring.HoldDeletion: %w", err)
	}
	return release, nil
}

// Deletion is what the key store says of an organisation's deletion. It needs no key management of the organisation's.
func (r *Ring) Deletion(ctx context.Context, t tenantdb.TenantID) (d Deletion, err error) {
	b, err := r.note(ctx, t, deletionFile)
	if err == nil && b != nil {
		d, err = parseDeletion(b)
	}
	if err != nil {
		return Deletion{}, fmt.Errorf("keyring.Deletion: %w", err)
	}
	return d, nil
}

// NoteDeletion says of an organisation's deletion what counts from then on. The caller has it from HoldDeletion.
func (r *Ring) NoteDeletion(ctx context.Context, t tenantdb.TenantID, d Deletion) error {
	if err := r.setNote(ctx, t, deletionFile, d.bytes()); err != nil {
		return fmt.Errorf("keyring.NoteDeletion: %w", err)
	}
	return nil
}
