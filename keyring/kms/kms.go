package kms

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/awskms"
	"github.com/avouch-dev/avouch/keyring/gcpkms"
	"github.com/avouch-dev/avouch/keyring/pkcs11"
	"github.com/avouch-dev/avouch/keyring/transit"
)

// Config is the settings. Each field is a flag, and has the environment variable of its env tag; docs/keyring.md says which belong to
// which kind.
type Config struct {
	Kind        string        `name:"kms" env:"AVOUCH_KMS" help:"What wraps the organisations' keys: local (the platform key), transit (OpenBao, Vault), awskms, gcpkms or pkcs11."`
	Key         string        `name:"kms-key" env:"AVOUCH_KMS_KEY" help:"The key there: a name (transit), an ARN (awskms), a resource name (gcpkms), a label (pkcs11)."`
	SigningKeys bool          `name:"kms-signing-keys" env:"AVOUCH_KMS_SIGNING_KEYS" default:"true" negatable:"" help:"The keys that sign tokens are wrapped by it too."`
	Sign        string        `name:"signing-keys" env:"AVOUCH_SIGNING_KEYS" help:"Where new keys that sign tokens are made: local, or kms, which they never leave."`
	Leaving     bool          `name:"kms-leaving" env:"AVOUCH_KMS_LEAVING" help:"Wrap with the platform key again, and only unwrap with the KMS."`
	Timeout     time.Duration `name:"kms-timeout" env:"AVOUCH_KMS_TIMEOUT" default:"5s" help:"How long one call may take."`

	Address   string `name:"kms-address" env:"AVOUCH_KMS_ADDRESS" help:"Where it answers, https: of transit, or of an endpoint of one's own of awskms and gcpkms."`
	CAFile    string `name:"kms-ca-file" env:"AVOUCH_KMS_CA_FILE" help:"transit: authorities beside the system's, PEM."`
	Mount     string `name:"kms-mount" env:"AVOUCH_KMS_MOUNT" help:"transit: where the engine is mounted; transit, if nothing is said."`
	Namespace string `name:"kms-namespace" env:"AVOUCH_KMS_NAMESPACE" help:"transit: the namespace."`

	Token          secret.String `name:"kms-token" env:"AVOUCH_KMS_TOKEN" hidden:"" help:"transit: a token. Environment only."`
	TokenFile      string        `name:"kms-token-file" env:"AVOUCH_KMS_TOKEN_FILE" help:"transit: file with a token, read again each minute."`
	RoleID         string        `name:"kms-role-id" env:"AVOUCH_KMS_ROLE_ID" help:"transit: the role id of an AppRole."`
	SecretID       secret.String `name:"kms-secret-id" env:"AVOUCH_KMS_SECRET_ID" hidden:"" help:"transit: its secret id. Environment only."`
	SecretIDFile   string        `name:"kms-secret-id-file" env:"AVOUCH_KMS_SECRET_ID_FILE" help:"transit: file with its secret id."`
	KubernetesRole string        `name:"kms-kubernetes-role" env:"AVOUCH_KMS_KUBERNETES_ROLE" help:"transit: the role to log in as from Kubernetes."`
	JWTFile        string        `name:"kms-jwt-file" env:"AVOUCH_KMS_JWT_FILE" help:"transit: file with the service account's token."`
	LoginMount     string        `name:"kms-login-mount" env:"AVOUCH_KMS_LOGIN_MOUNT" help:"transit: where the login method is mounted; approle or kubernetes, if nothing is said."`

	Module     string        `name:"kms-module" env:"AVOUCH_KMS_MODULE" help:"pkcs11: the library of the token's maker."`
	TokenLabel string        `name:"kms-token-label" env:"AVOUCH_KMS_TOKEN_LABEL" help:"pkcs11: the token's label."`
	PIN        secret.String `name:"kms-pin" env:"AVOUCH_KMS_PIN" hidden:"" help:"pkcs11: the user's PIN. Environment only."`
	PINFile    string        `name:"kms-pin-file" env:"AVOUCH_KMS_PIN_FILE" help:"pkcs11: file with the user's PIN."`
}

// Local reports whether there is no KMS.
func (c *Config) Local() bool { return c.Kind == "" || c.Kind == "local" }

// Wrappers wrap the two kinds of keys that an installation keeps: those of the key store, and those that sign tokens.
type Wrappers struct {
	Store, Signing *keyring.Several
	Held           keyring.Held // the KMS that may hold signing keys itself; without a Signer if there is none
	Lead           func()       // has the newest version of a platform key wrap, in this process (keyring.Platform.Lead)
}

// Open makes the wrappers. platform may be nil where a KMS wraps all; where it is given, it opens what it has wrapped before.
func (c *Config) Open(ctx context.Context, platform *keyring.Platform) (w Wrappers, err error) {
	if err := c.check(platform != nil); err != nil {
		return w, fmt.Errorf("kms.Open: %w", err)
	}
	var local, signing []keyring.Named
	w.Lead = func() {}
	if platform != nil {
		w.Lead = platform.Lead
		store, err := platform.Wrapper(keyring.ForKeyStore)
		if err != nil {
			return w, fmt.Errorf("kms.Open: %w", err)
		}
		keys, err := platform.Wrapper(keyring.ForSigning)
		if err != nil {
			return w, fmt.Errorf("kms.Open: %w", err)
		}
		local, signing = []keyring.Named{store}, []keyring.Named{keys}
	}
	if c.Local() {
		w.Store, w.Signing = keyring.NewSeveral(local[0]), keyring.NewSeveral(signing[0])
		return w, nil
	}
	driver, err := c.open(ctx)
	if err != nil {
		return w, fmt.Errorf("kms.Open: AVOUCH_KMS=%s: %w", c.Kind, err)
	}
	if w.Held, err = c.held(driver); err != nil {
		return w, fmt.Errorf("kms.Open: AVOUCH_KMS=%s: %w", c.Kind, err)
	}
	far := &shared{Named: driver}
	w.Store, w.Signing = keyring.NewSeveral(far, local...), keyring.NewSeveral(far, signing...)
	if c.Leaving {
		w.Store = keyring.NewSeveral(local[0], far)
	}
	if c.Leaving || !c.SigningKeys {
		w.Signing = keyring.NewSeveral(signing[0], far)
	}
	return w, nil
}

// held is the KMS as the place of signing keys. What it holds already signs whatever the setting says now.
func (c *Config) held(driver keyring.Named) (keyring.Held, error) {
	signer, signs := driver.(keyring.Signer)
	named, has := driver.(interface{ SignerID() string })
	if !signs || !has {
		return keyring.Held{}, errors.New("it holds no signing keys")
	}
	return keyring.Held{Signer: signer, ID: named.SignerID(), Make: c.Sign == inKMS, Patience: c.Timeout}, nil
}

// inKMS is AVOUCH_SIGNING_KEYS's other value.
const inKMS = "kms"

// check says which variable is missing, or is there for nothing.
func (c *Config) check(platform bool) error {
	switch {
	case c.Local() && !platform:
		return errors.New("there is no platform key: AVOUCH_PLATFORM_KEY_FILE names a file that only this user can read, with 32 random bytes in base64; or AVOUCH_PLATFORM_KEY holds them; or AVOUCH_KMS names a key management")
	case c.Sign != "" && c.Sign != "local" && c.Sign != inKMS:
		return fmt.Errorf("AVOUCH_SIGNING_KEYS is %.40q: want local or kms", c.Sign)
	case c.Sign == inKMS && c.Local():
		return errors.New("AVOUCH_SIGNING_KEYS=kms wants a key management: AVOUCH_KMS says which")
	case c.Sign == inKMS && c.Leaving:
		return errors.New("AVOUCH_SIGNING_KEYS=kms makes keys in the KMS that AVOUCH_KMS_LEAVING is to leave: take one of them away")
	case !platform && c.Leaving:
		return errors.New("AVOUCH_KMS_LEAVING wants the platform key that wraps instead: set AVOUCH_PLATFORM_KEY_FILE")
	case !platform && !c.SigningKeys:
		return errors.New("AVOUCH_KMS_SIGNING_KEYS=false wants the platform key that wraps them instead: set AVOUCH_PLATFORM_KEY_FILE")
	}
	if !c.Local() && !slices.Contains([]string{"transit", "awskms", "gcpkms", "pkcs11"}, c.Kind) {
		return fmt.Errorf("AVOUCH_KMS is %.40q: want local, transit, awskms, gcpkms or pkcs11", c.Kind)
	}
	for _, s := range c.settings() {
		switch fits := slices.Contains(strings.Fields(s.of), c.Kind); {
		case fits && s.must && !s.given:
			return fmt.Errorf("AVOUCH_KMS=%s wants %s", c.Kind, s.variable)
		case s.given && !fits:
			return fmt.Errorf("%s is set, and says nothing to AVOUCH_KMS=%s", s.variable, cmp.Or(c.Kind, "local"))
		}
	}
	return nil
}

// setting is a variable, and the kinds that it belongs to.
type setting struct {
	variable, of string
	given, must  bool
}

func (c *Config) settings() []setting {
	return []setting{
		{"AVOUCH_KMS_KEY", "transit awskms gcpkms pkcs11", c.Key != "", true},
		{"AVOUCH_KMS_LEAVING", "transit awskms gcpkms pkcs11", c.Leaving, false},
		{"AVOUCH_KMS_ADDRESS", "transit awskms gcpkms", c.Address != "", c.Kind == "transit"},
		{"AVOUCH_KMS_CA_FILE", "transit", c.CAFile != "", false},
		{"AVOUCH_KMS_MOUNT", "transit", c.Mount != "", false},
		{"AVOUCH_KMS_NAMESPACE", "transit", c.Namespace != "", false},
		{"AVOUCH_KMS_TOKEN", "transit", !c.Token.IsZero(), false},
		{"AVOUCH_KMS_TOKEN_FILE", "transit", c.TokenFile != "", false},
		{"AVOUCH_KMS_ROLE_ID", "transit", c.RoleID != "", false},
		{"AVOUCH_KMS_SECRET_ID", "transit", !c.SecretID.IsZero(), false},
		{"AVOUCH_KMS_SECRET_ID_FILE", "transit", c.SecretIDFile != "", false},
		{"AVOUCH_KMS_KUBERNETES_ROLE", "transit", c.KubernetesRole != "", false},
		{"AVOUCH_KMS_JWT_FILE", "transit", c.JWTFile != "", false},
		{"AVOUCH_KMS_LOGIN_MOUNT", "transit", c.LoginMount != "", false},
		{"AVOUCH_KMS_MODULE", "pkcs11", c.Module != "", true},
		{"AVOUCH_KMS_TOKEN_LABEL", "pkcs11", c.TokenLabel != "", true},
		{"AVOUCH_KMS_PIN", "pkcs11", !c.PIN.IsZero(), false},
		{"AVOUCH_KMS_PIN_FILE", "pkcs11", c.PINFile != "", false},
	}
}

// open makes the wrapper of a KMS.
func (c *Config) open(ctx context.Context) (keyring.Named, error) {
	switch c.Kind {
	case "transit":
		return transit.New(transit.Config{
			Address: c.Address, Mount: c.Mount, Key: c.Key, Namespace: c.Namespace, CAFile: c.CAFile, Timeout: c.Timeout,
			Login: transit.Login{
				Token: c.Token, TokenFile: c.TokenFile, RoleID: c.RoleID, SecretID: c.SecretID, SecretIDFile: c.SecretIDFile,
				JWTFile: c.JWTFile, Role: c.KubernetesRole, Mount: c.LoginMount,
			},
		})
	case "awskms":
		return awskms.New(awskms.Config{Key: c.Key, Endpoint: c.Address, Timeout: c.Timeout})
	case "gcpkms":
		return gcpkms.New(ctx, gcpkms.Config{Key: c.Key, Endpoint: c.Address, Timeout: c.Timeout})
	}
	pin, err := c.pin()
	if err != nil {
		return nil, err
	}
	return pkcs11.New(pkcs11.Config{Module: c.Module, Token: c.TokenLabel, Key: c.Key, PIN: pin, Timeout: c.Timeout})
}

func (c *Config) pin() (secret.String, error) {
	if c.PIN.IsZero() == (c.PINFile == "") {
		return secret.String{}, errors.New("want one of AVOUCH_KMS_PIN_FILE and AVOUCH_KMS_PIN")
	}
	if c.PINFile == "" {
		return c.PIN, nil
	}
	b, err := secret.ReadFile(c.PINFile, 1<<10)
	if err != nil {
		return secret.String{}, fmt.Errorf("AVOUCH_KMS_PIN_FILE: %w", err)
	}
	defer clear(b)
	return secret.Text(strings.TrimRight(string(b), "\r\n")), nil
}
