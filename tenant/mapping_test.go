package tenant

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
)

func TestMappingRules(t *testing.T) {
	const dn = "CN=Duke,OU=ServiceUsers,O=Org,C=US"
	for _, c := range []struct{ rules, subject, want string }{
		{"", dn, dn},
		{"DEFAULT", dn, dn},
		// The examples of KIP-371.
		{"RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/", dn, "Duke"},
		{"RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/L,DEFAULT", dn, "duke"},
		{"RULE:^CN=(.*?),OU=(.*?),O=(.*?),C=(.*?)$/$1@$2/U", dn, "DUKE@SERVICEUSERS"},
		{"RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/L, RULE:^.*$/none/", "CN=a.B,O=x", "a.b"},
		{"RULE:^CN=(\\w+)$/$1/,RULE:^CN=(.*?),.*$/$1a/", dn, "Dukea"},
		{"RULE:^CN=(.*?)\\/x$/$1\\/y/", "CN=q/x", "q/y"},
		{"RULE:^CN=x$/x/", dn, ""},
		{"RULE:CN/x/", dn, ""}, // the whole subject has to match
		{"RULE:^CN=x$/x/,DEFAULT", dn, dn},
	} {
		m, err := ParseMapping(c.rules)
		if err != nil {
			t.Errorf("%s: %v", c.rules, err)
			continue
		}
		if got, ok := m.Name(c.subject); got != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, %t, want %q", c.rules, got, ok, c.want)
		}
	}
	for _, bad := range []string{"RULE", "RULE:", "RULE:a", "RULE:a/b", "RULE:a/b/X", "DEFAULT DEFAULT", "DEFAULT,", "default", "RULE:(/x/", "RULE:a/b/LL", strings.Repeat("DEFAULT,", 10_000) + "DEFAULT"} {
		if m, err := ParseMapping(bad); err == nil {
			t.Errorf("%.60s is taken: %+v", bad, m)
		}
	}
}

func TestSubject(t *testing.T) {
	der := func(n pkix.Name) []byte {
		b, err := asn1.Marshal(n.ToRDNSequence())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		name pkix.Name
		want string
	}{
		{pkix.Name{}, ""},
		{pkix.Name{CommonName: "alice", OrganizationalUnit: []string{"eng"}, Organization: []string{"Acme"}, Country: []string{"DE"}}, "CN=alice,OU=eng,O=Acme,C=DE"},
		{pkix.Name{CommonName: `a,b+c"d\e<f>g;h`}, `CN=a\,b\+c\"d\\e\<f\>g\;h`},
		{pkix.Name{CommonName: " # "}, `CN=\ #\ `},
		{pkix.Name{CommonName: "#1"}, `CN=\#1`},
		{pkix.Name{CommonName: "x", SerialNumber: "7"}, "2.5.4.5=#130137,CN=x"},
		{pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, Value: "u"}}}, "UID=u"},
	} {
		if got, err := Subject(der(c.name)); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v, want %q", c.name, got, err, c.want)
		}
	}
	for _, bad := range [][]byte{nil, {1}, {0x30, 5, 1}, append(der(pkix.Name{CommonName: "x"}), 0), der(pkix.Name{CommonName: "a\x00b"}), {0x30, 2, 0x31, 0}} {
		if got, err := Subject(bad); err == nil {
			t.Errorf("% x: %q", bad, got)
		}
	}
}

func FuzzSubject(f *testing.F) {
	b, err := asn1.Marshal(pkix.Name{CommonName: "alice", Country: []string{"DE"}}.ToRDNSequence())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, "RULE:^CN=(.*?),.*$/$1/L,DEFAULT")
	f.Fuzz(func(t *testing.T, der []byte, rules string) {
		s, err := Subject(der)
		if err != nil {
			return
		}
		if m, err := ParseMapping(rules); err == nil {
			m.Name(s)
		}
	})
}
