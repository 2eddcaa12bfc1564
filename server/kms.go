package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/gcpkms"
	"github.com/avouch-dev/avouch/keyring/transit"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/tenantdb"
)

// kmsTimeout bounds one call of an organisation's own key management.
const kmsTimeout = 5 * time.Second

// openKMS makes the wrapper of an organisation's own key management. The organisation names its address, so it is reached as all such
// addresses are; and nothing of this machine (its files, environment, metadata server) is a credential for it.
func (s *Server) openKMS(k org.KMS) (keyring.KeyWrapper, error) {
	wrong := func(where, message string, err error) error {
		p := problem.New(problem.Invalid, "The settings of the key management are not usable.").Because(err)
		p.Fields = []problem.Field{{Location: "body." + where, Message: message}}
		return p
	}
	switch k.Kind {
	case org.KMSTransit:
		t := &k.Transit
		w, err := transit.New(transit.Config{
			Address: t.Address, Mount: t.Mount, Key: t.Key, Namespace: t.Namespace, Timeout: kmsTimeout, HTTP: s.outbound,
			Login: transit.Login{Token: t.Token, RoleID: t.RoleID, SecretID: t.SecretID, Mount: t.LoginMount},
		})
		switch {
		case errors.Is(err, transit.ErrAddress):
			return nil, wrong("transit.address", "must be https://host:port; with http://, keys would travel in clear", err)
		case errors.Is(err, transit.ErrKeyName):
			return nil, wrong("transit.key", "must be the name of a key, without a path", err)
		case err != nil:
			return nil, wrong("transit", "must have a token, or an AppRole (role_id and secret_id), and not both", err)
		}
		return w, nil
	case org.KMSGoogle:
		tokens, err := gcpkms.ServiceAccount(k.Google.Credentials, s.outbound)
		if err != nil {
			return nil, wrong("gcpkms.credentials", "must be the JSON of a key of a service account, as a text", err)
		}
		w, err := gcpkms.New(context.Background(), gcpkms.Config{Key: k.Google.Key, Tokens: tokens, Timeout: kmsTimeout, HTTP: s.outbound})
		if err != nil {
			return nil, wrong("gcpkms.key", "must be projects/P/locations/L/keyRings/R/cryptoKeys/K", err)
		}
		return w, nil
	}
	return nil, problem.New(problem.Invalid, "There is no kind of key management %q here.", k.Kind)
}

// ownKMS reaches an organisation's own key management, for the keyring, which was there before the rooms.
func (s *Server) ownKMS(ctx context.Context, t tenantdb.TenantID, setting keyring.SettingID) (keyring.KeyWrapper, error) {
	return s.Org.OwnKMS(ctx, t, setting)
}

// ownChanged says once that an organisation's own key management fails, and once that it works again.
func (s *Server) ownChanged(t tenantdb.TenantID, err error) {
	if err == nil {
		s.log.LogAttrs(context.Background(), slog.LevelInfo, "an organisation's own key management works again", slog.String("tenant_id", t.String()))
		return
	}
	s.log.LogAttrs(context.Background(), slog.LevelWarn, "an organisation's own key management gives no key; the organisation is closed unless it does soon",
		slog.String("tenant_id", t.String()), slog.String("why", string(keyring.WhyKMS(err))), slog.String("error", err.Error()))
}

// usable is the gate of the database's door. An operator's command passes it, to see and to mend; what is sealed stays so for it too.
func (s *Server) usable() func(context.Context, tenantdb.TenantID) error {
	if s.operating {
		return nil
	}
	return s.Ring.Usable
}

// tendOwn keeps what organisations' own key managements let us have.
func (s *Server) tendOwn(ctx context.Context) error {
	s.Ring.TendOwn(ctx)
	return nil
}

// tendEvery is a few times in the life of what they let us have.
func (s *Server) tendEvery() time.Duration {
	if s.cfg.ownLife == 0 {
		return 3 * time.Second
	}
	return s.cfg.ownLife / 10
}

// settleKMS moves on what is left half way of organisations' keys.
func (s *Server) settleKMS(ctx context.Context) error {
	return s.forEach(ctx, "kms", func(c tenantdb.Caller) error { return s.Org.SettleKMS(ctx, c) })
}

// kmsWords says to owners what became of their key management.
func kmsWords(what string) string {
	switch what {
	case "set":
		return "Its keys are under its own key management. Nothing of it opens here without that: whoever takes the key away there closes everything, for everybody, within a minute, and whoever loses it loses everything."
	case "removed":
		return "Its keys are not under its own key management any more, but under the key of this installation alone."
	}
	return "The operator of this installation has taken other settings for it, which open the same key, while it could not be reached."
}
