// Package nearest finds the known name that a mistyped one most likely meant.
package nearest

// Name returns the known name with the smallest edit distance to name, or ""
// when none is near enough to be a slip: more than a third of its length (of short names one edit), or
// more than 4 edits, away. Two letters that changed places are one edit.
func Name(name string, known []string) string {
	best, bestDistance := "", min(4, max(1, len(name)/3))+1
	for _, k := range known {
		// Of names that have nothing in common none was meant by the other.
		if d := distance(name, k, bestDistance); d < bestDistance && d < max(len(name), len(k)) {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is that of optimal string alignment (Levenshtein's, and neighbours that changed places), cut off at limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, above, row = above, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := above[j-1]
			if a[i-1] != b[j-1] {
				cost++
			}
			row[j] = min(cost, above[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return min(row[len(b)], limit)
}
