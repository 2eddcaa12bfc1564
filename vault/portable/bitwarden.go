package portable

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/secret"
)

// bitwardenFile is an export of Bitwarden or Vaultwarden, "JSON".
type bitwardenFile struct {
	Encrypted bool `json:"encrypted"`
	sealedFile
	Folders []struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"folders"`
	Items []struct {
		FolderID string `json:"folderId"`
		Name     string `json:"name"`
		Notes    string `json:"notes"`
		Login    *struct {
			Username string `json:"username"`
			TOTP     string `json:"totp"`
		} `json:"login"`
	} `json:"items"`
}

// Bitwarden reads the seeds of an export, in clear or encrypted under a password. Passwords and whatever else it holds are counted,
// and not read.
func Bitwarden(data []byte, password secret.String) (r Reading, err error) {
	var f bitwardenFile
	if err := json.Unmarshal(data, &f); err != nil {
		return r, malformed("it is no JSON of Bitwarden")
	}
	if f.Encrypted {
		if f, err = f.unsealed(password); err != nil {
			return r, err
		}
		r.Sealed = true
	}
	if f.Items == nil {
		return r, malformed("it holds no items of Bitwarden")
	}
	folders := map[string]string{}
	for _, d := range f.Folders {
		folders[d.ID] = d.Name
	}
	for i, it := range f.Items {
		if it.Login == nil || strings.TrimSpace(it.Login.TOTP) == "" {
			r.Others++
			continue
		}
		e, err := authenticatorKey(it.Login.TOTP)
		e.Issuer, e.Notes, e.Folder = it.Name, it.Notes, folders[it.FolderID]
		if it.Login.Username != "" {
			e.Account = it.Login.Username
		}
		r.add(placed(i, e), e, err)
	}
	return r, nil
}

// authenticatorKey reads what password managers have in one field: an address, steam://seed, or the seed alone.
func authenticatorKey(text string) (e Entry, err error) {
	text = strings.TrimSpace(text)
	switch {
	case hasPrefixFold(text, scheme):
		return URI(text)
	case hasPrefixFold(text, "steam://"):
		e.Kind, e.Scheme = otp.Steam, otp.OfSteam()
		e.Key, err = seed(text[len("steam://"):])
	case strings.Contains(text, "://"):
		err = errors.New("its seed is an address of another kind than otpauth and steam")
	default:
		e.Kind, e.Scheme = otp.TOTP, otp.Usual()
		e.Key, err = seed(text)
	}
	return e, err
}
