package awskms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/keyring/wrappertest"
	"github.com/avouch-dev/avouch/tenantdb"
)

var (
	here = keyring.Binding{Tenant: tenantdb.NewTenantID(), Item: "key/wrap/1"}
	key  = []byte("0123456789abcdef0123456789abcdef")
)

// TestContract: the wrapper does what every wrapper does, against a server that checks signatures and rights.
func TestContract(t *testing.T) {
	t.Parallel()
	m := newMoto(t)
	admin, avouch := m.newUser("admin", "*"), m.newUser("avouch", "kms:*")
	m.checkSignatures()
	f := newFront(t, m.URL)
	arn := m.newKey(admin)
	w, other := m.wrapper(f.URL, arn, avouch), m.wrapper(f.URL, m.newKey(admin), avouch)
	c, err := avouch.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	w.now = func() time.Time { return now }
	wrappertest.Run(t, wrappertest.Kind{
		Wrapper: w, Other: other, Name: "awskms",
		Rotate: func(t *testing.T) {
			if _, err := m.sdk(admin).RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &arn}); err != nil {
				t.Fatal(err)
			}
			now = now.Add(2 * believed)
		},
		Disable: func(*testing.T) { m.permit(admin, "avouch", "s3:*") }, Enable: func(*testing.T) { m.permit(admin, "avouch", "kms:*") },
		Hang:    f.hang,
		Secrets: []string{c.SecretAccessKey},
	})
	// Somebody who guesses at the secret is refused: the signatures above were checked.
	c.SecretAccessKey = "guessed"
	stranger := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil })
	if _, err := m.wrapper(m.URL, arn, stranger).Describe(t.Context()); !errors.Is(err, keyring.ErrRefused) {
		t.Errorf("a guessed secret: %v", err)
	}
}

// TestSDKAgrees: what we wrap the SDK's own client opens, and the other way about.
func TestSDKAgrees(t *testing.T) {
	t.Parallel()
	m := newMoto(t)
	arn := m.newKey(anyone)
	w, sdk := m.wrapper(m.URL, arn, anyone), m.sdk(anyone)
	wrapped, err := w.Wrap(t.Context(), secret.Own(bytes.Clone(key)), here)
	if err != nil {
		t.Fatal(err)
	}
	place := map[string]string{"avouch:tenant": here.Tenant.String(), "avouch:item": here.Item, "avouch:version": "1"}
	out, err := sdk.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &arn, CiphertextBlob: wrapped.Blob, EncryptionContext: place})
	if err != nil || !bytes.Equal(out.Plaintext, key) {
		t.Errorf("the SDK does not open it: %v", err)
	}
	theirs, err := sdk.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: key, EncryptionContext: place})
	if err != nil {
		t.Fatal(err)
	}
	wrapped.Blob = theirs.CiphertextBlob
	if plain, err := w.Unwrap(t.Context(), wrapped, here); err != nil || !bytes.Equal(plain.Expose(), key) {
		t.Errorf("we do not open the SDK's: %v", err)
	}
	wrapped.KeyVersion++
	if _, err := w.Unwrap(t.Context(), wrapped, here); !errors.Is(err, keyring.ErrSealed) {
		t.Errorf("with another version: %v", err)
	}
}

// TestRotation: a count of rotations is believed for a minute, and Describe asks anew.
func TestRotation(t *testing.T) {
	t.Parallel()
	m := newMoto(t)
	arn := m.newKey(anyone)
	f := newFront(t, m.URL)
	w := m.wrapper(f.URL, arn, anyone)
	now := time.Now()
	w.now = func() time.Time { return now }
	version := func() uint32 {
		t.Helper()
		k, err := w.Wrap(t.Context(), secret.Own(bytes.Clone(key)), here)
		if err != nil {
			t.Fatal(err)
		}
		return k.KeyVersion
	}
	first := version()
	if _, err := m.sdk(anyone).RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	soon := version()
	now = now.Add(believed + time.Second)
	later := version()
	if first != 1 || soon != 1 || later != 2 {
		t.Errorf("versions %d, %d, %d", first, soon, later)
	}
	if _, err := m.sdk(anyone).RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	d, err := w.Describe(t.Context())
	if err != nil || fmt.Sprint(d.Version, d.Versions) != "3 [1 2 3]" || time.Since(d.Since).Abs() > time.Minute {
		t.Errorf("%+v, %v", d, err)
	}
	if v := version(); v != 3 {
		t.Errorf("wraps under %d", v)
	}
	id := arn[strings.LastIndexByte(arn, '/')+1:] // moto disables by nothing else
	if _, err := m.sdk(anyone).DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &id}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Describe(t.Context()); !errors.Is(err, keyring.ErrRefused) {
		t.Errorf("a disabled key: %v", err)
	}
}

// TestErrors: each documented error means one of three things. moto gives few of them, so they are answered here.
func TestErrors(t *testing.T) {
	t.Parallel()
	f := newFront(t, "http://127.0.0.1:1")
	w, err := New(Config{Key: "arn:aws:kms:eu-central-1:123456789012:key/1", Endpoint: f.URL, Credentials: anyone, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	k := keyring.Wrapped{KeyID: w.KeyID(), KeyVersion: 1, Blob: []byte("x")}
	for _, c := range []struct {
		status int
		name   string
		want   error
	}{
		{400, "InvalidCiphertextException", keyring.ErrSealed}, {400, "com.amazonaws.kms#IncorrectKeyException", keyring.ErrSealed},
		{400, "DisabledException", keyring.ErrRefused}, {400, "KMSInvalidStateException", keyring.ErrRefused}, {400, "NotFoundException", keyring.ErrRefused},
		{400, "AccessDeniedException", keyring.ErrRefused}, {400, "ExpiredTokenException", keyring.ErrRefused}, {403, "", keyring.ErrRefused},
		{400, "ThrottlingException", keyring.ErrSilent}, {500, "KMSInternalException", keyring.ErrSilent}, {500, "KeyUnavailableException", keyring.ErrSilent},
		{500, "DependencyTimeoutException", keyring.ErrSilent}, {503, "", keyring.ErrSilent}, {429, "x y", keyring.ErrSilent},
	} {
		f.fails(c.status, c.name)
		_, err := w.Unwrap(t.Context(), k, here)
		for _, one := range []error{keyring.ErrSealed, keyring.ErrRefused, keyring.ErrSilent} {
			if errors.Is(err, one) != (one == c.want) {
				t.Errorf("%d %s: %v", c.status, c.name, err)
			}
		}
		if s := fmt.Sprint(err); strings.Contains(s, "AQICAH") || strings.Contains(s, "Credential=") {
			t.Errorf("an error holds what was answered: %v", err)
		}
	}
	f.set(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	})
	if _, err := w.Unwrap(t.Context(), k, here); !errors.Is(err, keyring.ErrRefused) {
		t.Errorf("a redirection: %v", err)
	}
	for _, bad := range []Config{
		{}, {Key: "alias/avouch"}, {Key: "arn:aws:kms:eu-central-1:123456789012:alias/avouch"}, {Key: "arn:aws:s3:eu-central-1:123456789012:key/1"},
		{Key: w.key, Endpoint: "http://kms.example"}, {Key: w.key, Endpoint: "https://a:b@kms.example"},
	} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	for partition, want := range map[string]string{"aws": "https://kms.x-1.amazonaws.com", "aws-cn": "https://kms.x-1.amazonaws.com.cn"} {
		if got, err := endpoint("", "kms", "x-1", partition); err != nil || got != want {
			t.Errorf("%s: %s, %v", partition, got, err)
		}
	}
}

// TestAnswersOfAnotherKey: what the service has done with another key than was named, or does not say with which, is not taken.
func TestAnswersOfAnotherKey(t *testing.T) {
	t.Parallel()
	f := newFront(t, "http://127.0.0.1:1")
	const arn = "arn:aws:kms:eu-central-1:123456789012:key/1"
	w, err := New(Config{Key: arn, Endpoint: f.URL, Credentials: anyone, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for name, good := range map[string]bool{arn: true, strings.Replace(arn, "key/1", "key/2", 1): false, strings.Replace(arn, "eu-central-1", "us-east-1", 1): false, "1": false, "": false} {
		f.set(func(w http.ResponseWriter, _ *http.Request) bool {
			_, err := fmt.Fprintf(w, `{"KeyId": %q, "CiphertextBlob": "eA==", "Plaintext": "eA==", "Rotations": []}`, name)
			return err == nil
		})
		_, errWrap := w.Wrap(t.Context(), secret.Own(bytes.Clone(key)), here)
		_, errUnwrap := w.Unwrap(t.Context(), keyring.Wrapped{KeyID: w.KeyID(), KeyVersion: 1, Blob: []byte("x")}, here)
		for _, err := range []error{errWrap, errUnwrap} {
			if (err == nil) != good || errors.Is(err, keyring.ErrSilent) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(name, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestCredentials: each way to have them is tried, with moto in the place of the services that give them.
func TestCredentials(t *testing.T) {
	t.Parallel()
	m := newMoto(t)
	arn := m.newKey(anyone)
	container := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "of the container" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `{"AccessKeyId":"ASIAC","SecretAccessKey":"c","Token":"t","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(container.Close)
	role := "arn:aws:iam::123456789012:role/avouch"
	instance := newFront(t, m.URL)
	instance.set(func(w http.ResponseWriter, r *http.Request) bool { // moto says no life of a session's token, and not that it succeeded
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
			_, _ = w.Write([]byte("of the session"))
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "of the session":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/latest/meta-data/iam/security-credentials/default-role":
			fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":"ASIAI","SecretAccessKey":"i","Token":"t","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		default:
			return false
		}
		return true
	})
	for name, env := range map[string]map[string]string{
		"environment":  {"AWS_ACCESS_KEY_ID": "AKIAX", "AWS_SECRET_ACCESS_KEY": "x", "AWS_SESSION_TOKEN": "s"},
		"web identity": {"AWS_WEB_IDENTITY_TOKEN_FILE": file(t, "header.claims.signature"), "AWS_ROLE_ARN": role, "AWS_ENDPOINT_URL_STS": m.URL},
		"container":    {"AWS_CONTAINER_CREDENTIALS_FULL_URI": container.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": file(t, "of the container")},
		"instance":     {"AWS_EC2_METADATA_SERVICE_ENDPOINT": instance.URL},
	} {
		w, err := New(Config{Key: arn, Endpoint: m.URL, Getenv: func(name string) string { return env[name] }})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		k, err := w.Wrap(t.Context(), secret.Own(bytes.Clone(key)), here)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := w.Unwrap(t.Context(), k, here); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, env := range map[string]map[string]string{
		"half of a key":      {"AWS_ACCESS_KEY_ID": "AKIAX"},
		"no role":            {"AWS_WEB_IDENTITY_TOKEN_FILE": "x"},
		"a stranger's":       {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://elsewhere.example/"},
		"a service in clear": {"AWS_WEB_IDENTITY_TOKEN_FILE": "x", "AWS_ROLE_ARN": role, "AWS_ENDPOINT_URL_STS": "http://sts.example"},
	} {
		if _, err := New(Config{Key: arn, Endpoint: m.URL, Getenv: func(name string) string { return env[name] }}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	// The SDK has the same of the same token.
	c, err := (&webIdentity{http.DefaultClient, m.URL, role, "avouch", file(t, "header.claims.signature")}).Retrieve(t.Context())
	theirs, err2 := stscreds.NewWebIdentityRoleProvider(sts.New(sts.Options{Region: region, BaseEndpoint: &m.URL}), role, stscreds.IdentityTokenFile(file(t, "header.claims.signature"))).Retrieve(t.Context())
	if err != nil || err2 != nil || len(c.AccessKeyID) != len(theirs.AccessKeyID) || len(c.SecretAccessKey) != len(theirs.SecretAccessKey) || !c.CanExpire || c.SessionToken == "" ||
		c.Expires.Sub(theirs.Expires).Abs() > time.Minute {
		t.Errorf("%v, %v", err, err2)
	}
}

// TestCredentialsAreHadAnew: those that a role gave are replaced before they end, and where the service says that they have.
func TestCredentialsAreHadAnew(t *testing.T) {
	t.Parallel()
	given, life := 0, time.Hour
	role := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		given++
		fmt.Fprintf(w, `{"AccessKeyId":"ASIA%d","SecretAccessKey":"secret-of-the-role","Token":"t","Expiration":%q}`, given, time.Now().Add(life).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(role.Close)
	f := newFront(t, "http://127.0.0.1:1")
	good := ""
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.Header.Get("Authorization"), "Credential=ASIA"+good) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"__type":"ExpiredTokenException"}`))
			return true
		}
		_, _ = w.Write([]byte(`{"KeyId": "arn:aws:kms:eu-central-1:123456789012:key/1", "Plaintext":"eA=="}`))
		return true
	})
	env := map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": role.URL}
	w, err := New(Config{Key: "arn:aws:kms:eu-central-1:123456789012:key/1", Endpoint: f.URL, Getenv: func(name string) string { return env[name] }})
	if err != nil {
		t.Fatal(err)
	}
	unwrap := func() error {
		_, err := w.Unwrap(t.Context(), keyring.Wrapped{KeyID: w.KeyID(), KeyVersion: 1, Blob: []byte("x")}, here)
		return err
	}
	if err := errors.Join(unwrap(), unwrap()); err != nil || given != 1 {
		t.Errorf("had %d times, %v", given, err)
	}
	good = "2"
	if err := unwrap(); err != nil || given != 2 {
		t.Errorf("ended before their time: had %d times, %v", given, err)
	}
	good = "9"
	if err := unwrap(); !errors.Is(err, keyring.ErrRefused) || given != 3 || strings.Contains(err.Error(), "secret-of-the-role") {
		t.Errorf("refused again: had %d times, %v", given, err)
	}
	role.Close()
	if err := unwrap(); !errors.Is(err, keyring.ErrSilent) && !errors.Is(err, keyring.ErrRefused) {
		t.Errorf("nobody gives any: %v", err)
	}
}

// FuzzErrors: whatever an error of the service is, it means one of three things, and tells no more than a name.
func FuzzErrors(f *testing.F) {
	f.Add(400, "Decrypt", `{"__type":"InvalidCiphertextException"}`)
	f.Add(400, "Encrypt", `{"__type":"com.amazonaws.kms#ThrottlingException","message":"of AQICAHsecret"}`)
	f.Add(503, "Decrypt", "<html>")
	f.Fuzz(func(t *testing.T, status int, operation, answer string) {
		err, means := judge(status, operation, []byte(answer)), 0
		for _, one := range []error{keyring.ErrSealed, keyring.ErrRefused, keyring.ErrSilent} {
			if errors.Is(err, one) {
				means++
			}
		}
		if means != 1 || len(err.Error()) > 200 || strings.ContainsAny(err.Error(), "\"{}<>\n") {
			t.Errorf("%d: %v", means, err)
		}
	})
}
