package tenant

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Mapping turns the subject of a client's certificate into the name of a
// principal, by rules as those of ssl.principal.mapping.rules (KIP-371):
//
//	RULE:^CN=(.*?),OU=eng.*$/$1@eng/L,RULE:^CN=(.*?),.*$/$1/,DEFAULT
//
// The first rule whose pattern matches the whole subject decides; $1 is its
// first group, L and U make the result small or capital. DEFAULT is the subject
// itself. No rule at all is DEFAULT.
type Mapping struct{ rules []rule }

type rule struct {
	match       *regexp.Regexp // nil: DEFAULT
	replacement string
	fold        byte // L, U or 0
}

const (
	maxRules = 16 << 10
	maxDN    = 4 << 10
)

// ParseMapping reads rules. Patterns are RE2: without back references and looks
// ahead, and in time linear in the subject.
func ParseMapping(text string) (*Mapping, error) {
	m := &Mapping{}
	if len(text) > maxRules {
		return nil, fmt.Errorf("mapping rules of %d bytes, at most %d", len(text), maxRules)
	}
	rest := strings.TrimSpace(text)
	for rest != "" {
		after, isRule := strings.CutPrefix(rest, "RULE:")
		if !isRule {
			after, ok := strings.CutPrefix(rest, "DEFAULT")
			if !ok {
				return nil, fmt.Errorf("mapping rules: want RULE:pattern/replacement/[LU] or DEFAULT at %.40q", rest)
			}
			m.rules = append(m.rules, rule{})
			rest = after
		} else {
			pattern, after, ok := part(after)
			if !ok {
				return nil, fmt.Errorf("mapping rules: no replacement in %.40q", rest)
			}
			replacement, after, ok := part(after)
			if !ok {
				return nil, fmt.Errorf("mapping rules: %.40q does not end in a slash", rest)
			}
			match, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
			if err != nil {
				return nil, fmt.Errorf("mapping rules: %w", err)
			}
			r := rule{match: match, replacement: groups.ReplaceAllString(strings.ReplaceAll(replacement, `\/`, `/`), "$${$1}")}
			if after != "" && (after[0] == 'L' || after[0] == 'U') {
				r.fold, after = after[0], after[1:]
			}
			m.rules = append(m.rules, r)
			rest = after
		}
		rest = strings.TrimLeft(rest, " \t\r\n")
		if rest == "" {
			break
		}
		if rest[0] != ',' {
			return nil, fmt.Errorf("mapping rules: want a comma at %.40q", rest)
		}
		if rest = strings.TrimLeft(rest[1:], " \t\r\n"); rest == "" {
			return nil, errors.New("mapping rules end in a comma")
		}
	}
	return m, nil
}

// groups are references to groups in a replacement. In Go's regexp $1a would be
// the group named 1a.
var groups = regexp.MustCompile(`\$(\d+)`)

// part cuts at the first slash that no backslash precedes.
func part(s string) (before, after string, ok bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '/':
			return s[:i], s[i+1:], true
		}
	}
	return "", "", false
}

// Name returns the principal's name for a subject as [Subject] writes it; false
// if no rule matches.
func (m *Mapping) Name(subject string) (string, bool) {
	if len(m.rules) == 0 {
		return subject, true
	}
	for i := range m.rules {
		r := &m.rules[i]
		if r.match == nil {
			return subject, true
		}
		at := r.match.FindStringSubmatchIndex(subject)
		if at == nil {
			continue
		}
		name := string(r.match.ExpandString(nil, r.replacement, subject, at))
		switch r.fold {
		case 'L':
			name = strings.ToLower(name)
		case 'U':
			name = strings.ToUpper(name)
		}
		return name, true
	}
	return "", false
}

// attributes are the types that RFC 2253 has names for, as Java's X500Principal
// writes them; all others are written by number, with their value in hex.
var attributes = map[string]string{
	"2.5.4.3": "CN", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU",
	"2.5.4.6": "C", "2.5.4.9": "STREET", "0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
}

type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// Subject writes a certificate's subject (its DER) as Kafka's principals have
// it: RFC 2253, most specific part first.
func Subject(der []byte) (string, error) {
	if len(der) > maxDN {
		return "", fmt.Errorf("a subject of %d bytes, at most %d", len(der), maxDN)
	}
	var seq []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &seq); err != nil || len(rest) > 0 {
		return "", errors.New("the subject is malformed")
	}
	var parts []string
	for _, raw := range seq {
		var set []attribute
		if rest, err := asn1.UnmarshalWithParams(raw.FullBytes, &set, "set"); err != nil || len(rest) > 0 || len(set) == 0 {
			return "", errors.New("the subject is malformed")
		}
		var values []string
		for _, a := range set {
			v, err := a.text()
			if err != nil {
				return "", err
			}
			values = append(values, v)
		}
		parts = append(parts, strings.Join(values, "+"))
	}
	slices.Reverse(parts)
	return strings.Join(parts, ","), nil
}

func (a *attribute) text() (string, error) {
	id := a.Type.String()
	name, ok := attributes[id]
	var value string
	switch a.Value.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagT61String:
		value = string(a.Value.Bytes)
	case asn1.TagBMPString:
		var b strings.Builder
		for i := 0; i+1 < len(a.Value.Bytes); i += 2 {
			b.WriteRune(rune(a.Value.Bytes[i])<<8 | rune(a.Value.Bytes[i+1]))
		}
		value = b.String()
	default:
		ok = false
	}
	if !ok {
		if name == "" {
			name = id
		}
		return name + "=#" + hex.EncodeToString(a.Value.FullBytes), nil
	}
	if !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", errors.New("the subject holds control characters")
	}
	return name + "=" + escape(value), nil
}

// escape is that of RFC 2253, section 2.4.
func escape(s string) string {
	var b strings.Builder
	for i, r := range s {
		if strings.ContainsRune(`,+"\<>;`, r) || i == 0 && (r == '#' || r == ' ') || r == ' ' && i == len(s)-1 {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
