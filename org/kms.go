package org

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// An organisation may keep its keys under a key management of its own, and close everything that it has here by taking the key away
// there (keyring.HandOver). How that is reached lies in the database, sealed under the keys of the installation's own organisation: it
// is needed to open this one's.

// KMS is how an organisation's own key management is reached. Settings of its kind alone are given.
type KMS struct {
	secret.Hidden
	Kind    string // KMSTransit or KMSGoogle
	Transit TransitKMS
	Google  GoogleKMS
}

// The kinds of key managements.
const (
	KMSTransit = "transit"
	KMSGoogle  = "gcpkms"
	kmsLost    = "lost" // the key store names settings that are not here
)

// TransitKMS is a key of a transit engine, of OpenBao or Vault, with a token or an AppRole.
type TransitKMS struct {
	Address, Mount, Key, Namespace, RoleID, LoginMount string
	Token, SecretID                                    secret.String
}

// GoogleKMS is a key of Google Cloud KMS, with the credentials of a service account.
type GoogleKMS struct {
	Key         string
	Credentials secret.String
}

// keptKMS is KMS as it is sealed.
type keptKMS struct {
	Kind        string `json:"kind"`
	Address     string `json:"address,omitempty"`
	Mount       string `json:"mount,omitempty"`
	Key         string `json:"key,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	RoleID      string `json:"role_id,omitempty"`
	LoginMount  string `json:"login_mount,omitempty"`
	Token       string `json:"token,omitempty"`
	SecretID    string `json:"secret_id,omitempty"`
	Credentials string `json:"credentials,omitempty"`
	// Leaving is since when the keys are on their way back to the platform: the row's state says so too, but whoever can write the row
	// must not be able to have an organisation's key management taken away.
	Leaving time.Time `json:"leaving,omitzero"`
}

func (k *KMS) kept() keptKMS {
	if k.Kind == KMSGoogle {
		return keptKMS{Kind: k.Kind, Key: k.Google.Key, Credentials: k.Google.Credentials.Expose()}
	}
	t := &k.Transit
	return keptKMS{Kind: k.Kind, Address: t.Address, Mount: t.Mount, Key: t.Key, Namespace: t.Namespace, RoleID: t.RoleID, LoginMount: t.LoginMount, Token: t.Token.Expose(), SecretID: t.SecretID.Expose()}
}

func (k keptKMS) settings() KMS {
	if k.Kind == KMSGoogle {
		return KMS{Kind: k.Kind, Google: GoogleKMS{k.Key, secret.Text(k.Credentials)}}
	}
	return KMS{Kind: k.Kind, Transit: TransitKMS{k.Address, k.Mount, k.Key, k.Namespace, k.RoleID, k.LoginMount, textOr(k.Token), textOr(k.SecretID)}}
}

// textOr is zero for an empty text.
func textOr(s string) secret.String {
	if s == "" {
		return secret.String{}
	}
	return secret.Text(s)
}

type kmsKind struct{}

// kmsID names a setting; keyring.SettingID is the same.
type kmsID = id.ID[kmsKind]

// The states of a setting.
const (
	kmsBegun   = "begun"
	kmsCurrent = "current"
	kmsLeaving = "leaving"
)

// kmsRow is a setting as it is kept.
type kmsRow struct {
	ID      kmsID
	Kind    string
	KeyID   string // names the key, as its wrapper does
	SetBy   string // kind and id of the actor
	SetAt   time.Time
	state   string
	sealed  []byte
	version int64
}

func (k *kmsRow) event(typ string, t tenantdb.TenantID) audit.Event {
	return audit.Event{
		Type: typ, Target: audit.Target{Kind: "organisation", ID: t.String()},
		Public: []audit.Field{field("setting", k.ID.String()), field("kind", k.Kind)},
	}
}

// kmsItem is what settings are sealed as: of one organisation, and one setting.
func kmsItem(t tenantdb.TenantID, id kmsID) string {
	return "own-kms/" + t.String() + "/" + id.String()
}

const kmsField = "settings"

func (r *Room) sealKMS(ctx context.Context, t tenantdb.TenantID, k *kmsRow, kept keptKMS) (err error) {
	plain, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	defer clear(plain)
	k.sealed, err = r.cfg.Ring.Seal(ctx, tenantdb.Platform, kmsItem(t, k.ID), kmsField, uint64(k.version), plain)
	return err
}

func (r *Room) readKMS(ctx context.Context, t tenantdb.TenantID, k kmsRow) (kept keptKMS, err error) {
	plain, err := r.cfg.Ring.Open(ctx, tenantdb.Platform, kmsItem(t, k.ID), kmsField, uint64(k.version), k.sealed)
	if err != nil {
		return kept, err
	}
	defer clear(plain)
	if err := json.Unmarshal(plain, &kept); err != nil {
		return keptKMS{}, errors.New("org: the settings of a key management are none")
	}
	return kept, nil
}

// markKMS is a setting that the keys leave since an instant; or, with zero, that they stay with.
func (r *Room) markKMS(ctx context.Context, t tenantdb.TenantID, k kmsRow, leaving time.Time) (kmsRow, error) {
	kept, err := r.readKMS(ctx, t, k)
	if err != nil {
		return k, err
	}
	kept.Leaving, k.state = leaving, kmsLeaving
	if leaving.IsZero() {
		k.state = kmsCurrent
	}
	k.version++
	return k, r.sealKMS(ctx, t, &k, kept)
}

// OwnKMS is the wrapper that a setting of an organisation describes, for the keyring.
func (r *Room) OwnKMS(ctx context.Context, t tenantdb.TenantID, s keyring.SettingID) (keyring.KeyWrapper, error) {
	var k kmsRow
	err := r.cfg.DB.Read(ctx, tenantdb.System(t, "kms").Keyless(), func(tx *tenantdb.ReadTx) (err error) {
		k, err = loadKMS(ctx, tx, kmsID(s))
		return err
	})
	var w keyring.KeyWrapper
	var kept keptKMS
	if err == nil {
		kept, err = r.readKMS(ctx, t, k)
	}
	if err == nil {
		w, err = r.cfg.OpenKMS(kept.settings())
	}
	if err != nil {
		return nil, fmt.Errorf("org.OwnKMS: %w", err)
	}
	return w, nil
}

// KMSState is how it stands with an organisation's own key management.
type KMSState struct {
	keyring.OwnState
	Kind, KeyID string // Kind is empty if the platform opens its keys, and "lost" if the settings are missing
	SetBy       string
	SetAt       time.Time
	Moving      bool // its keys are on their way
}

// GetKMS says how it stands. The operator can ask while the organisation is closed.
func (r *Room) GetKMS(ctx context.Context, c tenantdb.Caller) (s KMSState, err error) {
	if err := need(c, "organisation:read"); err != nil {
		return s, err
	}
	if s.OwnState, err = r.cfg.Ring.OwnStateOf(ctx, c.Tenant()); err != nil {
		return s, fmt.Errorf("org.GetKMS: %w", err)
	}
	if s.Setting != (keyring.SettingID{}) {
		s.Kind = kmsLost
	}
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		rows, err := kmsRows(ctx, tx)
		for _, k := range rows {
			s.Moving = s.Moving || k.state != kmsCurrent
			if keyring.SettingID(k.ID) == s.Setting {
				s.Kind, s.KeyID, s.SetBy, s.SetAt = k.Kind, k.KeyID, k.SetBy, k.SetAt
			}
		}
		return err
	})
	if err != nil {
		return KMSState{}, fmt.Errorf("org.GetKMS: %w", err)
	}
	return s, nil
}

// tried says what a key management did, in the words of its organisation. What an address answered, or whether it may be reached at
// all, is not said: whoever names addresses could map the network by it.
func tried(err error) error {
	var p *problem.Error
	if errors.As(err, &p) && p.Kind != problem.Unavailable {
		return p
	}
	if errors.Is(err, keyring.ErrHeld) { // which says nothing of the key management
		return err
	}
	words := map[keyring.Why]string{
		keyring.Refused: "it refuses: look at its policy, and at the credential that you gave",
		keyring.Silent:  "it does not answer, or not in time",
		keyring.Unset:   "how it is reached is missing here, or cannot be read; the operator must see to it",
		keyring.Wrong:   "it answers, and not as it should. Make sure that it is the right key, of a kind that binds what it wraps, and that its version is enabled",
	}
	return problem.New(problem.Conflict, "The key management could not be used, and nothing was changed: %s.", words[keyring.WhyKMS(err)]).Because(err)
}

// onTheWay says that keys were left half way, where everything opens.
func onTheWay(err error) error {
	return problem.New(problem.Unavailable, "Not all of your keys could be moved. Everything opens, and Avouch goes on within ten minutes by itself.").Because(err)
}

// tellOfKMS tells every owner.
func (r *Room) tellOfKMS(ctx context.Context, tx *tenantdb.Tx, what string) error {
	return r.tellOwners(ctx, tx, mail.KMSChanged, map[string]string{"what": what, "by": by(tx.Caller().Actor()), "at": r.instant().Format(time.RFC3339)})
}
