// Package region knows by which senders mail and text messages of an organisation leave: those of its region and no
// others, each with credentials of its own.
//
// What it promises:
//
//  1. What an organisation of a region is sent, and what its people are sent, reaches that region's server alone:
//     TestMailStaysInItsRegion, TestTextsStayInTheirRegion.
//  2. A region that is not there, or that has no sender, is refused. The installation's own sender is for organisations
//     without a region, and never stands in: TestRefused.
//  3. No two regions have an account, a password, a token or a header with a credential in common, nor has one any of the
//     installation's own: TestCredentialsAreSeparate.
//  4. The file is read strictly: what is unknown, twice, misspelt or of another type is an error, and so is what regions
//     cannot have yet: TestParse, FuzzParse.
//  5. The file, and each file with a password that it names, is its owner's alone: TestFilesArePrivate.
//
// The file that AVOUCH_REGIONS_FILE names is JSON, the regions by their names:
//
//	{"eu": {"mail": {"server": "mail.eu.example:587", "from": "Avouch <avouch@eu.example>", "user": "avouch",
//	                 "password_file": "eu-mail", "tls": "starttls", "ca_file": "eu-ca.pem"},
//	        "sms": {"provider": "twilio", "account": "AC...", "token_file": "eu-sms", "from": "+49..."}}}
//
// Names of files are relative to the directory that it lies in. The members of mail mean what AVOUCH_MAIL_SERVER,
// AVOUCH_MAIL_FROM and so on mean, and those of sms what AVOUCH_SMS_PROVIDER and so on do; credentials are in files of their own. A
// region without mail is one from which nothing is mailed, and so it is with sms.
package region
