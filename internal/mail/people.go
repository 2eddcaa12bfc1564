package mail

import (
	"strings"
	"unicode"
)

// The templates of mails to people about their accounts, and what each is filled with.
const (
	Invitation      Template = "invitation"       // InvitationData
	Recover         Template = "recover"          // LinkData
	RecoverDone     Template = "recover_done"     // SecurityData
	PasswordChanged Template = "password_changed" // SecurityData
	NewDevice       Template = "new_device"       // SecurityData
	SessionReused   Template = "session_reused"   // SecurityData
	AddressChange   Template = "address_change"   // LinkData, to the new address
	AddressChanged  Template = "address_changed"  // SecurityData, to the old address
)

// The templates of mails to those who answer for an organisation.
const (
	RulesLowered        Template = "rules_lowered"        // RulesLoweredData
	Ownership           Template = "ownership"            // OwnershipData
	OrganisationDeleted Template = "organisation_deleted" // OrganisationDeletedData
	DeletionAsked       Template = "deletion_asked"       // DeletionAskedData
	DeletionEnded       Template = "deletion_ended"       // DeletionEndedData
	GlassAsked          Template = "glass_asked"          // GlassData
	GlassOpened         Template = "glass_opened"         // GlassData
	GlassReview         Template = "glass_review"         // GlassReviewData
	SSOConfigurerLeft   Template = "sso_configurer_left"  // SSOConfigurerLeftData
	VaultRequested      Template = "vault_requested"      // VaultData
	VaultExported       Template = "vault_exported"       // VaultData
	VaultRedirected     Template = "vault_redirected"     // VaultData
	KMSChanged          Template = "kms_changed"          // KMSChangedData
)

// InvitationData fills Invitation. It goes to an address that nobody has proved, at the word of whoever made the
// organisation: both names appear shortened, and not as addresses that a program would make into links.
type InvitationData struct {
	Organisation string
	Inviter      string // may be empty
	Link         string // its secret is behind the #
	Expires      string
}

// LinkData fills the mails that carry a link which counts once.
type LinkData struct {
	Organisation string
	When         string // it was asked for
	Link         string // its secret is behind the #
	Expires      string
}

// SecurityData fills the notices of what was done with the reader's own account.
type SecurityData struct {
	Organisation string
	When         string
	Where        string // the device and its address: "Firefox on Linux, 192.0.2.7"; may be empty
	URL          string // of the page of the account; may be empty
}

// RulesLoweredData fills RulesLowered: what protects everybody is about to be lowered, and every owner can stop it.
type RulesLoweredData struct {
	Organisation string
	Changes      []string // one at least, each a sentence
	By           string
	When         string
	Due          string // when it takes effect
	URL          string // of where it is cancelled; may be empty
}

// OwnershipData fills Ownership: an organisation has one owner more, or less.
type OwnershipData struct {
	Organisation string
	Person       string
	Owner        bool // is one now, or is one no longer
	Suspended    bool // is one still, and cannot act as one
	By           string
	When         string
	URL          string // may be empty
}

// OrganisationDeletedData fills OrganisationDeleted.
type OrganisationDeletedData struct {
	Organisation string
	Asked        string // who asked for it, and was confirmed by By; may be empty
	By           string
	When         string
	Gone         string // when its keys are destroyed
}

// DeletionAskedData fills DeletionAsked: an owner wants the organisation deleted, and another one must confirm it.
type DeletionAskedData struct {
	Organisation string
	By           string
	When         string
	Lapses       string
	URL          string // of how it is confirmed or withdrawn; may be empty
}

// DeletionEndedData fills DeletionEnded: what was asked for is not done.
type DeletionEndedData struct {
	Organisation string
	By           string // who withdrew it; empty if it lapsed
	When         string
}

// GlassData fills the mails about one use of break-glass.
type GlassData struct {
	Organisation string
	Person       string
	Capabilities []string
	Reason       string
	When         string // asked, or opened
	By           string // who approved it; empty if nobody did, or before
	Opens        string // when it opens by itself; may be empty
	Until        string // when it ends; empty before it is open
	URL          string // may be empty
}

// GlassReviewData fills GlassReview: a use that has ended waits to be signed off, or the list of a week.
type GlassReviewData struct {
	Organisation string
	Week         string // its Monday; empty for one use
	Uses         int    // in that week
	Person       string // of the one use
	When         string // it ended
	URL          string // may be empty
}

// SSOConfigurerLeftData fills SSOConfigurerLeft: whoever set up how everybody signs in has left.
type SSOConfigurerLeftData struct {
	Organisation string
	Connection   string
	Person       string
	When         string
	URL          string // may be empty
}

// VaultData fills the mails about the vault: somebody asks for an item, has taken secrets out of it, or has one sent
// elsewhere.
type VaultData struct {
	Organisation string
	By           string      // what they are called; it begins sentences: "The API key nightly"
	Who          string      // by what nobody else is called: an address, or a kind and an id
	Items        []VaultItem // one at least
	More         int         // how many there are beside
	Request      string      // the id of what is asked for; of requests alone, and so is what follows
	What         string      // what is asked for: "its codes"
	Seed         bool        // whether the secret itself is asked for
	For          string      // how long
	Reason       string
	When         string
	URL          string // of the operation that the API has for it; may be empty
}

// VaultItem is an item of a vault.
type VaultItem struct {
	Name string
	ID   string
}

// Count is how many items there are.
func (d VaultData) Count() int { return len(d.Items) + d.More }

// Item is the first.
func (d VaultData) Item() VaultItem { return d.Items[0] }

// KMSChangedData fills KMSChanged: an organisation's keys are under another key management than before, or it is reached in another way.
type KMSChangedData struct {
	Organisation string
	What         string // a sentence
	By           string
	When         string
	URL          string // may be empty
}

// calm shows a name that a stranger chose, in a mail that we send to whomever that stranger names: on one line, short,
// and so that no reader's program takes a part of it for an address on the net and makes it a link.
func calm(name string) string {
	var out []rune
	all := []rune(oneLine(name))
	for i, r := range all {
		switch {
		case len(out) == 64:
			return string(out) + "…"
		case strings.ContainsRune(`/\:@<>`, r):
			out = append(out, ' ')
		case isDot(r) && i+1 < len(all) && !unicode.IsSpace(all[i+1]):
			out = append(out, '·')
		default:
			out = append(out, r)
		}
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

// quote sets what somebody wrote apart, every line of it: it could look like ours.
func quote(text string) string {
	lines := strings.FieldsFunc(strings.ToValidUTF8(text, ""), func(r rune) bool { return strings.ContainsRune("\n\r\v\f\u0085\u2028\u2029", r) })
	return "  > " + strings.Join(lines, "\n  > ")
}

// isDot: what stands for a dot in names of hosts, by IDNA too.
func isDot(r rune) bool { return r == '.' || r == '\u3002' || r == '\uff0e' || r == '\uff61' }
