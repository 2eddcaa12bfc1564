package mail

// The mails about second factors, and what each is filled with.
const (
	SignInCode    Template = "sign_in_code"   // SignInCodeData
	FactorChanged Template = "factor_changed" // FactorChangedData
)

// SignInCodeData fills SignInCode: the code that a person gives back to sign in, or to confirm an address.
type SignInCodeData struct {
	Organisation string
	Code         string
	Minutes      string // that it is good for
}

// FactorChangedData fills FactorChanged: what happened to the second factors of the reader, or of somebody else.
type FactorChangedData struct {
	Organisation string
	Whose        string // name; empty if they are the reader's own
	What         string // a sentence
	When         string
	URL          string // may be empty
}
