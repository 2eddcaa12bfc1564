package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
)

// follow says which version of the platform key wraps. A version that was added to its file must wrap nothing before every server was
// given it; that it may is said in the key store, which all processes share.
type follow struct {
	dir  string
	lead atomic.Bool
	seen atomic.Pointer[followed]
}

type followed struct {
	version uint32
	until   time.Time
}

// followLife is how long a process goes by what it read.
const followLife = time.Second

// Follow has the platform key wrap, and digest, under the version that a key store's mark is wrapped under, until Rewrap moves that to
// the newest. Without it, or without such a key store, the newest wraps.
func (p *Platform) Follow(dir string) { p.follow.dir = dir }

// Lead has it wrap under its newest version in this process: for whoever is about to Rewrap.
func (p *Platform) Lead() { p.follow.lead.Store(true) }

// current is the version that wraps. A process that was not given it has been forgotten at a rotation: what it would wrap, or digest,
// under an older one would need that again, when whoever rotates has been told that nothing does.
func (p *Platform) current() (uint32, error) {
	version := p.following()
	if _, given := p.versions[version]; !given {
		return 0, fmt.Errorf("version %d of the platform key wraps now: %w", version, ErrNotGiven)
	}
	return version, nil
}

// following is the version that current asks for.
func (p *Platform) following() uint32 {
	f := p.follow
	if f.dir == "" || f.lead.Load() {
		return p.newest
	}
	now, seen := time.Now(), f.seen.Load()
	if seen != nil && now.Before(seen.until) {
		return seen.version
	}
	next := &followed{p.newest, now.Add(followLife)}
	w, _, err := Under(f.dir)
	switch {
	case err == nil && w.KeyID == "platform/"+ForKeyStore:
		next.version = w.Version
	case err != nil && seen != nil: // what was so a moment ago is more likely than what was never so
		next.version = seen.version
	}
	f.seen.Store(next)
	return next.version
}

// pepperFile says in the key store which version of the pepper digests, where there may be one of its own: as the digest's rows say it, or
// 0 for the one that comes from the platform key. A version that was added to the pepper's file must digest nothing before every server
// was given it.
const (
	pepperFile  = "pepper"
	pepperMagic = "avouch-pepper-1\n"
)

// current is the version that new digests are made with. Where the key store does not say, or says one that was not given here, it is the
// newest.
func (p *pepper) current() (uint32, error) {
	now, seen := time.Now(), p.seen.Load()
	if seen == nil || !now.Before(seen.until) {
		next := &followed{p.newest, now.Add(followLife)}
		said, err := p.said()
		_, given := p.versions[said]
		switch {
		case err == nil && (given || said == 0):
			next.version = said
		case err != nil && !errors.Is(err, fs.ErrNotExist) && seen != nil: // what was so a moment ago is more likely
			next.version = seen.version
		}
		p.seen.Store(next)
		seen = next
	}
	if p.platform != nil && seen.version < ownPepper {
		return p.platform.current()
	}
	if seen.version == 0 {
		return p.newest, nil
	}
	return seen.version, nil
}

// said is what the key store says.
func (p *pepper) said() (uint32, error) {
	text, err := secret.ReadFile(filepath.Join(p.dir, pepperFile), 64)
	if err != nil {
		return 0, err
	}
	number, ok := strings.CutPrefix(string(text), pepperMagic)
	v, err := strconv.ParseUint(strings.TrimSuffix(number, "\n"), 10, 32)
	if !ok || err != nil || v != 0 && v <= ownPepper {
		return 0, ErrDamaged
	}
	return uint32(v), nil
}

// BeginPepper has the key store say which version of the pepper digests from now on, if it never did: the newest that this server was given,
// since a server that starts for the first time is not one of many that lack it.
func (r *Ring) BeginPepper() error {
	file := filepath.Join(r.store.dir, pepperFile)
	temp, err := r.store.temp(file, r.pepper.mark())
	if err != nil {
		return fmt.Errorf("keyring.BeginPepper: %w", err)
	}
	defer os.Remove(temp)
	if err := os.Link(temp, file); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keyring.BeginPepper: %w", err)
	}
	if err := syncDir(r.store.dir); err != nil {
		return fmt.Errorf("keyring.BeginPepper: %w", err)
	}
	return nil
}

// LeadPepper has every process digest with the newest version of a pepper of its own that this one was given, from now on; one that was
// given none changes nothing.
func (r *Ring) LeadPepper() error {
	if r.pepper.newest <= ownPepper {
		return nil
	}
	file := filepath.Join(r.store.dir, pepperFile)
	temp, err := r.store.temp(file, r.pepper.mark())
	if err == nil {
		err = errors.Join(os.Rename(temp, file), syncDir(r.store.dir))
	}
	if err != nil {
		return fmt.Errorf("keyring.LeadPepper: %w", err)
	}
	r.pepper.seen.Store(nil)
	return nil
}

func (p *pepper) mark() []byte {
	version := p.newest
	if version <= ownPepper { // which of the platform key's is said elsewhere
		version = 0
	}
	return fmt.Appendf(nil, "%s%d\n", pepperMagic, version)
}
