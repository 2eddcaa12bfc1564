package mfa

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"net/netip"
	"slices"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// passkey is what is kept of a credential.
type passkey struct {
	ID         []byte   `json:"id"`
	PublicKey  []byte   `json:"public_key"` // COSE
	Flags      byte     `json:"flags"`      // of its registration
	Transports []string `json:"transports,omitempty"`
	Model      []byte   `json:"aaguid,omitempty"`
	Format     string   `json:"format,omitempty"`
}

func (k *passkey) credential(count int64) webauthn.Credential {
	c := webauthn.Credential{
		ID: k.ID, PublicKey: k.PublicKey, AttestationFormat: k.Format, Flags: webauthn.NewCredentialFlags(protocol.AuthenticatorFlags(k.Flags)),
		Authenticator: webauthn.Authenticator{AAGUID: k.Model, SignCount: uint32(count)},
	}
	for _, t := range k.Transports {
		c.Transport = append(c.Transport, protocol.AuthenticatorTransport(t))
	}
	return c
}

// holder is a person as an authenticator knows them. The handle is the person's id, which says nothing of who it is.
type holder struct {
	person        tenantdb.PersonID
	name, address string
	credentials   []webauthn.Credential
}

// WebAuthnID is the user handle.
func (h *holder) WebAuthnID() []byte { return h.person[:] }

// WebAuthnName is what authenticators show to tell accounts apart.
func (h *holder) WebAuthnName() string { return h.address }

// WebAuthnDisplayName is the person's name.
func (h *holder) WebAuthnDisplayName() string { return h.name }

// WebAuthnCredentials are the person's passkeys.
func (h *holder) WebAuthnCredentials() []webauthn.Credential { return h.credentials }

func holding(p tenantdb.PersonID, all []stored) *holder {
	h := &holder{person: p}
	for _, f := range all {
		if f.Kind == Passkey && f.details.Passkey != nil {
			h.credentials = append(h.credentials, f.details.Passkey.credential(f.counter))
		}
	}
	return h
}

// relyingParty is what passkeys are bound to: the host of the public URL, which must be a name, over TLS or on localhost.
func relyingParty(cfg Config) (*webauthn.WebAuthn, string) {
	u := cfg.PublicURL
	if u == nil || u.Hostname() == "" {
		return nil, "this installation has no public URL"
	}
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return nil, "the public URL of this installation names an IP address, and a passkey is bound to a host name"
	}
	if u.Scheme != "https" && host != "localhost" {
		return nil, "the public URL of this installation is not https, and browsers use passkeys over TLS or on localhost only"
	}
	attestation := protocol.PreferNoAttestation
	if cfg.HardwareRoots != nil {
		attestation = protocol.PreferDirectAttestation
	}
	w, err := webauthn.New(&webauthn.Config{
		RPID: host, RPDisplayName: cfg.Issuer, RPOrigins: []string{u.Scheme + "://" + u.Host}, AttestationPreference: attestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementPreferred, UserVerification: protocol.VerificationPreferred,
		},
		// Clients return outputs that nobody asked for, and nothing here is decided from any.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
	})
	if err != nil {
		return nil, "the host of this installation's public URL is none that a passkey can be bound to"
	}
	return w, ""
}

// Passkeys reports whether there can be passkeys here, and if not, why.
func (r *Room) Passkeys() (ok bool, why string) { return r.web != nil, r.noPasskeys }

func (r *Room) passkeys() error {
	if r.web == nil {
		return problem.New(problem.Invalid, "Passkeys cannot be used here: %s.", r.noPasskeys)
	}
	return nil
}

// challenge asks for any passkey of those.
func (r *Room) challenge(p tenantdb.PersonID, usable []stored, verify bool) (json.RawMessage, *webauthn.SessionData, error) {
	if err := r.passkeys(); err != nil {
		return nil, nil, err
	}
	uv := protocol.VerificationPreferred
	if verify {
		uv = protocol.VerificationRequired
	}
	options, session, err := r.web.BeginLogin(holding(p, usable), webauthn.WithUserVerification(uv))
	if err != nil {
		return nil, nil, err
	}
	encoded, err := json.Marshal(options)
	return encoded, session, err
}

// AskPasskey makes a challenge for whoever holds a passkey: nobody has said who it is. The state is wanted by Prove, as Ask's.
func (r *Room) AskPasskey(context.Context) (Question, []byte, error) {
	if err := r.passkeys(); err != nil {
		return Question{}, nil, err
	}
	options, session, err := r.web.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return Question{}, nil, wrap("AskPasskey", err)
	}
	now := r.instant()
	q := Question{Kind: Passkey, ExpiresAt: now.Add(CodeLife)}
	if q.Options, err = json.Marshal(options); err != nil {
		return Question{}, nil, wrap("AskPasskey", err)
	}
	state, err := json.Marshal(asking{Kind: Passkey, At: now, Passwordless: true, Session: session})
	return q, state, wrap("AskPasskey", err)
}

// Owner is whose a passkey is.
type Owner struct {
	Tenant tenantdb.TenantID
	Person tenantdb.PersonID
	Factor ID
}

// maxAnswer is the most bytes of an authenticator's answer.
const maxAnswer = 64 << 10

// FindPasskey says whose the passkey of an answer to AskPasskey is, before anything of it is proved: by its credential and
// by the handle of the person, both of which the authenticator gives.
func (r *Room) FindPasskey(ctx context.Context, answer json.RawMessage) (Owner, error) {
	parsed, err := parseAssertion(answer)
	if err != nil {
		return Owner{}, err
	}
	var found []Owner
	err = r.cfg.DB.Read(ctx, tenantdb.System(tenantdb.Platform, "passkey"), func(tx *tenantdb.ReadTx) (err error) {
		found, err = lookupPasskey(ctx, tx, sha256.Sum256(parsed.RawID))
		return err
	})
	if err != nil {
		return Owner{}, wrap("FindPasskey", err)
	}
	// Others may have registered the same id: only the person of the handle counts.
	i := slices.IndexFunc(found, func(o Owner) bool { return bytes.Equal(o.Person[:], parsed.Response.UserHandle) })
	if i < 0 {
		return Owner{}, refuse("no such passkey")
	}
	return found[i], nil
}

func parseAssertion(answer json.RawMessage) (*protocol.ParsedCredentialAssertionData, error) {
	if len(answer) > maxAnswer {
		return nil, refuse("the answer is too long")
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return nil, refuse("the answer cannot be read")
	}
	return parsed, nil
}

// used is a passkey that was proved.
type used struct {
	factor   *stored
	count    int64
	verified bool
}

// verify judges an assertion. It changes nothing.
func (r *Room) verify(a Answer, s asking, usable []stored) (used, error) {
	if err := r.passkeys(); err != nil {
		return used{}, err
	}
	parsed, err := parseAssertion(a.Assertion)
	if err != nil {
		return used{}, err
	}
	who := holding(a.Person, usable)
	var cred *webauthn.Credential
	if s.Passwordless {
		_, cred, err = r.web.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
			if !bytes.Equal(handle, who.WebAuthnID()) {
				return nil, refuse("another's handle")
			}
			return who, nil
		}, *s.Session, parsed)
	} else {
		cred, err = r.web.ValidateLogin(who, *s.Session, parsed)
	}
	if err != nil {
		return used{}, refuse("the assertion does not hold: " + err.Error())
	}
	i := slices.IndexFunc(usable, func(f stored) bool { return f.details.Passkey != nil && bytes.Equal(f.details.Passkey.ID, cred.ID) })
	if cred.Authenticator.CloneWarning {
		return used{}, cloned(a.Person, usable[i].ID)
	}
	flags := parsed.Response.AuthenticatorData.Flags
	return used{&usable[i], int64(parsed.Response.AuthenticatorData.Counter), flags.HasUserVerified()}, nil
}

// register asks a person for a new passkey. Those that the person has are excluded.
func (r *Room) register(who *holder, onlyHardware bool) (json.RawMessage, *webauthn.SessionData, error) {
	if err := r.passkeys(); err != nil {
		return nil, nil, err
	}
	exclude := make([]protocol.CredentialDescriptor, len(who.credentials))
	for i, c := range who.credentials {
		exclude[i] = c.Descriptor()
	}
	selection := r.web.Config.AuthenticatorSelection
	if onlyHardware {
		selection.AuthenticatorAttachment = protocol.CrossPlatform
	}
	options, session, err := r.web.BeginRegistration(who, webauthn.WithExclusions(exclude), webauthn.WithAuthenticatorSelection(selection))
	if err != nil {
		return nil, nil, err
	}
	encoded, err := json.Marshal(options)
	return encoded, session, err
}

// registered judges an authenticator's answer to register.
func (r *Room) registered(who *holder, session *webauthn.SessionData, answer json.RawMessage) (k *passkey, count int64, hardware bool, err error) {
	if err := r.passkeys(); err != nil {
		return nil, 0, false, err
	}
	if len(answer) > maxAnswer {
		return nil, 0, false, refuse("the answer is too long")
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return nil, 0, false, refuse("the answer cannot be read")
	}
	cred, err := r.web.CreateCredential(who, *session, parsed)
	if err != nil {
		return nil, 0, false, refuse("the registration does not hold: " + err.Error())
	}
	k = &passkey{
		ID: cred.ID, PublicKey: cred.PublicKey, Flags: cred.Flags.MsgpByte(), Model: cred.Authenticator.AAGUID, Format: cred.AttestationFormat,
	}
	for _, t := range cred.Transport {
		k.Transports = append(k.Transports, string(t))
	}
	return k, int64(cred.Authenticator.SignCount), r.inHardware(cred, parsed.Response.AttestationObject.AttStatement), nil
}

// inHardware reports whether a maker that the installation trusts attests that the key is in a device of its own. The
// statement's signature was verified; here it is asked whose it is. Who may be backed up is in no hardware.
func (r *Room) inHardware(cred *webauthn.Credential, statement map[string]any) bool {
	if r.cfg.HardwareRoots == nil || cred.Flags.BackupEligible {
		return false
	}
	if cred.AttestationFormat != "packed" && cred.AttestationFormat != "fido-u2f" {
		return false
	}
	if len(r.cfg.HardwareModels) > 0 && !slices.ContainsFunc(r.cfg.HardwareModels, func(m [16]byte) bool { return bytes.Equal(m[:], cred.Authenticator.AAGUID) }) {
		return false
	}
	chain, ok := statement["x5c"].([]any) // absent where the key attests itself
	if !ok || len(chain) == 0 {
		return false
	}
	var leaf *x509.Certificate
	between := x509.NewCertPool()
	for i, c := range chain {
		der, _ := c.([]byte)
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return false
		}
		if i == 0 {
			leaf = cert
		} else {
			between.AddCert(cert)
		}
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: r.cfg.HardwareRoots, Intermediates: between, CurrentTime: r.cfg.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err == nil
}
