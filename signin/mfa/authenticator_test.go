package mfa

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// authenticator is one in software, with the browser before it. It writes the bytes that the specification says; what a
// test changes of it is the attack.
type authenticator struct {
	origin   string // of the page that the browser shows
	rp       string // what it takes the relying party for
	verifies bool   // it verifies who holds it
	counts   bool
	synced   bool // it may be backed up
	model    [16]byte
	maker    *maker // attests; nil is none
	self     bool   // attests itself

	id     []byte
	handle []byte
	key    *ecdsa.PrivateKey
	count  uint32
}

// maker is the maker of hardware keys.
type maker struct {
	root *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newMaker(t testing.TB) *maker {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Maker"}, NotBefore: start.Add(-time.Hour), NotAfter: start.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	root, err := x509.ParseCertificate(der)
	must(t, err)
	return &maker{root, key}
}

func (m *maker) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(m.root)
	return p
}

// device makes the certificate and key of a batch of devices of a model.
func (m *maker) device(t testing.TB, model [16]byte) (*ecdsa.PrivateKey, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	aaguid, err := asn1.Marshal(model[:])
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: start.Add(-time.Hour), NotAfter: start.AddDate(10, 0, 0), BasicConstraintsValid: true,
		Subject:         pkix.Name{Country: []string{"SE"}, Organization: []string{"Maker"}, OrganizationalUnit: []string{"Authenticator Attestation"}, CommonName: "Key 5"},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}, Value: aaguid}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, m.root, &key.PublicKey, m.key)
	must(t, err)
	return key, der
}

func newAuthenticator() *authenticator {
	return &authenticator{origin: "https://avouch.example", rp: "avouch.example", verifies: true}
}

var b64 = base64.RawURLEncoding

func (a *authenticator) clientData(kind, challenge string) []byte {
	b, _ := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": a.origin, "crossOrigin": false})
	return b
}

func (a *authenticator) data(attested []byte) []byte {
	flags := byte(0x01)
	if a.verifies {
		flags |= 0x04
	}
	if a.synced {
		flags |= 0x18
	}
	if attested != nil {
		flags |= 0x40
	}
	rp := sha256.Sum256([]byte(a.rp))
	b := append(rp[:], flags)
	if a.counts {
		a.count++
	}
	return append(binary.BigEndian.AppendUint32(b, a.count), attested...)
}

// create answers navigator.credentials.create.
func (a *authenticator) create(t testing.TB, options json.RawMessage) json.RawMessage {
	t.Helper()
	var o struct {
		PublicKey struct {
			Challenge string
			User      struct{ ID string }
		}
	}
	must(t, json.Unmarshal(options, &o))
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	if a.id == nil {
		a.id = make([]byte, 32)
		rand.Read(a.id)
	}
	a.handle, err = b64.DecodeString(o.PublicKey.User.ID)
	must(t, err)
	public, err := a.key.PublicKey.Bytes()
	must(t, err)
	cose, err := cbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: public[1:33], -3: public[33:]})
	must(t, err)
	attested := append(append(a.model[:], 0, byte(len(a.id))), a.id...)
	data, client := a.data(append(attested, cose...)), a.clientData("webauthn.create", o.PublicKey.Challenge)
	format, statement := a.attest(t, data, client)
	object, err := cbor.Marshal(map[string]any{"fmt": format, "attStmt": statement, "authData": data})
	must(t, err)
	return a.credential(t, map[string]any{
		"clientDataJSON": b64.EncodeToString(client), "attestationObject": b64.EncodeToString(object), "transports": []string{"usb"},
	})
}

func (a *authenticator) attest(t testing.TB, data, client []byte) (string, map[string]any) {
	sum := sha256.Sum256(client)
	signed := sha256.Sum256(append(data[:len(data):len(data)], sum[:]...))
	switch {
	case a.maker != nil:
		key, cert := a.maker.device(t, a.model)
		sig, err := ecdsa.SignASN1(rand.Reader, key, signed[:])
		must(t, err)
		return "packed", map[string]any{"alg": -7, "sig": sig, "x5c": []any{cert}}
	case a.self:
		sig, err := ecdsa.SignASN1(rand.Reader, a.key, signed[:])
		must(t, err)
		return "packed", map[string]any{"alg": -7, "sig": sig}
	}
	return "none", map[string]any{}
}

func (a *authenticator) credential(t testing.TB, response map[string]any) json.RawMessage {
	t.Helper()
	id := b64.EncodeToString(a.id)
	b, err := json.Marshal(map[string]any{
		"id": id, "rawId": id, "type": "public-key", "response": response, "clientExtensionResults": map[string]any{"credProps": map[string]any{"rk": true}},
	})
	must(t, err)
	return b
}

// get answers navigator.credentials.get.
func (a *authenticator) get(t testing.TB, options json.RawMessage) json.RawMessage {
	t.Helper()
	var o struct{ PublicKey struct{ Challenge string } }
	must(t, json.Unmarshal(options, &o))
	data, client := a.data(nil), a.clientData("webauthn.get", o.PublicKey.Challenge)
	sum := sha256.Sum256(client)
	signed := sha256.Sum256(append(data[:len(data):len(data)], sum[:]...))
	sig, err := ecdsa.SignASN1(rand.Reader, a.key, signed[:])
	must(t, err)
	return a.credential(t, map[string]any{
		"clientDataJSON": b64.EncodeToString(client), "authenticatorData": b64.EncodeToString(data), "signature": b64.EncodeToString(sig),
		"userHandle": b64.EncodeToString(a.handle),
	})
}
