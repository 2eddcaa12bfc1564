package portable

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/secret"
)

// twoFASFile is a backup of 2FAS, in clear or with its services encrypted under a password.
type twoFASFile struct {
	Services  []twoFASService `json:"services"`
	Encrypted string          `json:"servicesEncrypted"` // ciphertext with tag, salt and nonce, each base64, divided by colons
	Groups    []struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"groups"`
	Schema int `json:"schemaVersion"`
}

type twoFASService struct {
	Name    string `json:"name"`
	Secret  string `json:"secret"`
	GroupID string `json:"groupId"`
	OTP     struct {
		Label     string `json:"label"`
		Account   string `json:"account"`
		Issuer    string `json:"issuer"`
		Digits    int    `json:"digits"`
		Period    int64  `json:"period"`
		Algorithm string `json:"algorithm"`
		Counter   uint64 `json:"counter"`
		TokenType string `json:"tokenType"`
	} `json:"otp"`
}

// TwoFAS reads a backup.
func TwoFAS(data []byte, password secret.String) (r Reading, err error) {
	var f twoFASFile
	if err := json.Unmarshal(data, &f); err != nil {
		return r, malformed("it is no JSON of 2FAS")
	}
	if f.Encrypted != "" {
		if f.Services, err = openTwoFAS(f.Encrypted, password); err != nil {
			return r, err
		}
		r.Sealed = true
	} else if f.Services == nil {
		return r, malformed("it holds no services of 2FAS")
	}
	groups := map[string]string{}
	for _, g := range f.Groups {
		groups[g.ID] = g.Name
	}
	for i, s := range f.Services {
		e := Entry{Kind: otp.TOTP, Issuer: s.OTP.Issuer, Account: s.OTP.Account, Counter: s.OTP.Counter, Folder: groups[s.GroupID]}
		if e.Issuer == "" {
			e.Issuer = s.Name
		}
		if e.Account == "" && s.OTP.Label != s.Name {
			_, e.Account, _ = names(strings.ReplaceAll(s.OTP.Label, "%", "%25"), e.Issuer)
		}
		if kind := strings.ToLower(s.OTP.TokenType); kind != "" {
			e.Kind = otp.Kind(kind)
		}
		digits, period := s.OTP.Digits, s.OTP.Period
		if digits == 0 { // 2FAS leaves out what is usual
			digits = otp.Usual().Digits
		}
		if period == 0 {
			period = otp.Usual().Period
		}
		r.add(placed(i, e), e, e.from(s.Secret, s.OTP.Algorithm, digits, period))
	}
	return r, nil
}

// twoFASRounds are those of its key: PBKDF2-HMAC-SHA-256.
const twoFASRounds = 10_000

func openTwoFAS(text string, password secret.String) (services []twoFASService, err error) {
	var parts [][]byte
	for part := range strings.SplitSeq(text, ":") {
		b, err := base64.StdEncoding.DecodeString(part)
		if err != nil {
			return nil, malformed("its encrypted part is not base64")
		}
		parts = append(parts, b)
	}
	if len(parts) != 3 || len(parts[0]) < 16 {
		return nil, malformed("its encrypted part has not three parts")
	}
	if password.IsZero() {
		return nil, ErrEncrypted
	}
	key, err := pbkdf2.Key(sha256.New, password.Expose(), parts[1], twoFASRounds, 32)
	if err != nil {
		return nil, malformed("its password cannot be tried")
	}
	defer clear(key)
	end := len(parts[0]) - 16
	plain, err := openGCM(key, parts[2], parts[0][:end], parts[0][end:])
	if err != nil {
		return nil, ErrPassword
	}
	defer clear(plain)
	if err := json.Unmarshal(plain, &services); err != nil {
		return nil, malformed("it holds no services of 2FAS")
	}
	return services, nil
}
