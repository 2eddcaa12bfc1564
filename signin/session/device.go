package session

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/tenantdb"
)

const (
	deviceLife  = 180 * 24 * time.Hour
	mostDevices = 20 // of a person
	mostPeople  = 5  // on a device
)

// DeviceOf is what a browser's device cookie says; empty if it says nothing. It proves nothing by itself, see KnownDevice.
func (r *Room) DeviceOf(req *http.Request) string {
	v, err := r.cookieOf(req, deviceCookie)
	if err != nil {
		return ""
	}
	return strings.Join(values(v), ".")
}

// values are those in a device cookie: one for each of the people who signed in there, the last one first.
func values(cookie string) []string {
	var out []string
	for v := range strings.SplitSeq(line(cookie, mostPeople*(valueSize+1)), ".") {
		if wellFormed(v) && len(out) < mostPeople && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// Device gives a browser the device cookie that RememberDevice made.
func (r *Room) Device(w http.ResponseWriter, cookie secret.String) {
	http.SetCookie(w, r.cookie(deviceCookie, cookie.Expose(), deviceLife))
}

// KnownDevice reports whether the person signed in on the device before. It asks the same of the database whatever the cookie
// holds, and whoever the person is.
func (r *Room) KnownDevice(ctx context.Context, tx *tenantdb.ReadTx, p tenantdb.PersonID, cookie string) (bool, error) {
	digests := make([][]byte, 0, mostPeople)
	for _, v := range values(cookie) {
		digests = append(digests, digestOf(v))
	}
	for len(digests) < mostPeople {
		nobodys := make([]byte, 32)
		rand.Read(nobodys) // never fails
		digests = append(digests, nobodys)
	}
	n, err := knowsDevice(ctx, tx, p, digests, r.cfg.Now())
	if err != nil {
		return false, fmt.Errorf("session.KnownDevice: %w", err)
	}
	return n > 0, nil
}

// RememberDevice says that the person has signed in on a device, and returns its new cookie. A value that the browser brought is
// kept only if it is this person's already: one that somebody planted would be theirs too. Those of other people who sign in there
// stay beside it.
func (r *Room) RememberDevice(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID, cookie string) (secret.String, error) {
	now, had := r.instant(), values(cookie)
	mine := ""
	for _, v := range had {
		n, err := knowsDevice(ctx, &tx.ReadTx, p, [][]byte{digestOf(v)}, now)
		if err != nil {
			return secret.String{}, fmt.Errorf("session.RememberDevice: %w", err)
		}
		if n > 0 {
			mine = v
		}
	}
	if mine == "" {
		fresh, _ := value()
		mine = fresh.Expose()
	}
	if err := saveDevice(ctx, tx, p, digestOf(mine), now, now.Add(deviceLife), mostDevices); err != nil {
		return secret.String{}, fmt.Errorf("session.RememberDevice: %w", err)
	}
	others := slices.DeleteFunc(had, func(v string) bool { return v == mine })
	all := append([]string{mine}, others...)
	return secret.Text(strings.Join(all[:min(len(all), mostPeople)], ".")), nil
}

// ForgetDevices makes all devices of a person unknown, as when the password changes or is recovered.
func (r *Room) ForgetDevices(ctx context.Context, tx *tenantdb.Tx, p tenantdb.PersonID) (int, error) {
	n, err := deleteDevices(ctx, tx, p)
	if err != nil {
		return 0, fmt.Errorf("session.ForgetDevices: %w", err)
	}
	return int(n), nil
}
