package portable

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/scrypt"

	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/secret"
)

// aegisFile is a backup of Aegis (docs/vault.md of its source), in clear or encrypted under a password.
type aegisFile struct {
	Header struct {
		Slots  []aegisSlot  `json:"slots"`
		Params *aegisParams `json:"params"`
	} `json:"header"`
	DB json.RawMessage `json:"db"`
}

type aegisParams struct {
	Nonce hexBytes `json:"nonce"`
	Tag   hexBytes `json:"tag"`
}

type aegisSlot struct {
	Type      int         `json:"type"` // 1 is a password's
	Key       hexBytes    `json:"key"`
	KeyParams aegisParams `json:"key_params"`
	N         int         `json:"n"`
	R         int         `json:"r"`
	P         int         `json:"p"`
	Salt      hexBytes    `json:"salt"`
}

type aegisDB struct {
	Entries []struct {
		Type   string   `json:"type"`
		Name   string   `json:"name"`
		Issuer string   `json:"issuer"`
		Note   string   `json:"note"`
		Group  string   `json:"group"`  // the name, up to version 2
		Groups []string `json:"groups"` // ids, from version 3 on
		Info   struct {
			Secret  string `json:"secret"`
			Algo    string `json:"algo"`
			Digits  int    `json:"digits"`
			Period  int64  `json:"period"`
			Counter uint64 `json:"counter"`
		} `json:"info"`
	} `json:"entries"`
	Groups []struct {
		ID   string `json:"uuid"`
		Name string `json:"name"`
	} `json:"groups"`
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// Aegis reads a backup.
func Aegis(ctx context.Context, data []byte, password secret.String) (r Reading, err error) {
	var f aegisFile
	if err := json.Unmarshal(data, &f); err != nil {
		return r, malformed("it is no JSON of Aegis")
	}
	plain := []byte(f.DB)
	if len(f.Header.Slots) > 0 || f.Header.Params != nil {
		if plain, err = f.open(ctx, password); err != nil {
			return r, err
		}
		defer clear(plain)
		r.Sealed = true
	}
	var db aegisDB
	if err := json.Unmarshal(plain, &db); err != nil || db.Entries == nil {
		return r, malformed("it holds no entries of Aegis")
	}
	groups := map[string]string{}
	for _, g := range db.Groups {
		groups[g.ID] = g.Name
	}
	for i, a := range db.Entries {
		e := Entry{Kind: otp.Kind(strings.ToLower(a.Type)), Issuer: a.Issuer, Account: a.Name, Notes: a.Note, Folder: a.Group, Counter: a.Info.Counter}
		for n, id := range a.Groups {
			if n == 0 {
				e.Folder = groups[id]
			} else {
				e.Tags = append(e.Tags, groups[id])
			}
		}
		r.add(placed(i, e), e, e.from(a.Info.Secret, a.Info.Algo, a.Info.Digits, a.Info.Period))
	}
	return r, nil
}

// from is what apps' files say of a seed, each in a field of its own.
func (e *Entry) from(text, hash string, digits int, period int64) (err error) {
	if e.Key, err = seed(text); err != nil {
		return err
	}
	if e.Scheme.Algorithm, err = algorithm(hash); err != nil {
		return err
	}
	e.Scheme.Digits, e.Scheme.Period = digits, period
	switch e.Kind {
	case otp.TOTP:
	case otp.HOTP:
		e.Scheme.Period = 0
	case otp.Steam:
		e.Scheme = otp.OfSteam()
	default:
		return errors.New("its kind is none of totp, hotp and steam")
	}
	return nil
}

func placed(i int, e Entry) string {
	if name := tidy(Entry{Title: tidy(e.Title), Issuer: tidy(e.Issuer), Account: tidy(e.Account)}.Name()); name != "" {
		return fmt.Sprintf("entry %d (%s)", i+1, shortened(name))
	}
	return fmt.Sprintf("entry %d", i+1)
}

func shortened(s string) string {
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return s
}

// What a password may cost. Aegis' own are 32,768, 8 and 1: 32 MiB; and it makes a slot for the password, and one for another of backups.
// A file that asks for more is meant to exhaust us.
const (
	mostScryptMemory = 64 << 20
	mostSlots        = 4 // of passwords
)

// open decrypts a backup: scrypt of the password opens the key of a slot, and that the database.
func (f *aegisFile) open(ctx context.Context, password secret.String) ([]byte, error) {
	var text string
	if f.Header.Params == nil || json.Unmarshal(f.DB, &text) != nil {
		return nil, malformed("its header says that it is encrypted, and it is not")
	}
	sealed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, malformed("its encrypted part is not base64")
	}
	if password.IsZero() {
		return nil, ErrEncrypted
	}
	tried := 0
	for _, s := range f.Header.Slots {
		if s.Type != 1 {
			continue
		}
		if tried++; tried > mostSlots {
			return nil, malformed("it has over %d slots of passwords, and the password opens none of the first", mostSlots)
		}
		if s.N < 2 || s.R < 1 || s.P != 1 || s.R > mostScryptMemory/128/s.N {
			return nil, malformed("its password would cost more than %d MiB to try", mostScryptMemory>>20)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		key, err := scrypt.Key([]byte(password.Expose()), s.Salt, s.N, s.R, s.P, 32)
		if err != nil {
			return nil, malformed("its password cannot be tried")
		}
		master, err := openGCM(key, s.KeyParams.Nonce, s.Key, s.KeyParams.Tag)
		clear(key)
		if err != nil {
			continue
		}
		plain, err := openGCM(master, f.Header.Params.Nonce, sealed, f.Header.Params.Tag)
		clear(master)
		if err != nil {
			return nil, malformed("its encrypted part was changed")
		}
		return plain, nil
	}
	return nil, ErrPassword
}

// openGCM decrypts AES-256-GCM whose tag stands apart.
func openGCM(key, nonce, sealed, tag []byte) ([]byte, error) {
	if len(key) != 32 || len(tag) != 16 || len(nonce) != 12 {
		return nil, ErrFormat
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return gcm.Open(nil, nonce, append(append([]byte(nil), sealed...), tag...), nil)
}
