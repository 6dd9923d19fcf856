#!/usr/bin/env bash
# Posts what perf.yml measured as one comment on its pull request, or updates that comment. The artifact is a stranger's: which pull
# request it belongs to is GitHub's word and not the artifact's, its size is bounded before it is fetched and while it is, and the
# text is made by `aieng-bench comment`. Reads REPOSITORY, RUN, HEAD_SHA, HEAD_OWNER and HEAD_BRANCH of the event; needs gh.
set -euo pipefail
LIMIT=$((64 * 1024 * 1024))
MARK='<!-- aieng-bench perf -->'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

pull=$(gh api --method GET "repos/$REPOSITORY/pulls" -f state=open -f head="$HEAD_OWNER:$HEAD_BRANCH" \
  --jq '.[] | select(.head.sha == env.HEAD_SHA) | .number' | head -n 1)
if ! [[ $pull =~ ^[0-9]+$ ]]; then
  echo "no open pull request has $HEAD_SHA at its head; nothing to say"
  exit 0
fi

artifact=$(gh api "repos/$REPOSITORY/actions/runs/$RUN/artifacts" \
  --jq '.artifacts[] | select(.name == "perf") | "\(.id) \(.size_in_bytes)"' | head -n 1)
if ! [[ $artifact =~ ^([0-9]+)\ ([0-9]+)$ ]]; then
  echo "the run left no records"
  exit 0
fi
if ((BASH_REMATCH[2] > LIMIT)); then
  echo "the artifact has ${BASH_REMATCH[2]} bytes; at most $LIMIT are read" >&2
  exit 1
fi
gh api "repos/$REPOSITORY/actions/artifacts/${BASH_REMATCH[1]}/zip" | head -c "$((LIMIT + 1))" > "$folder/perf.zip"
python -m aieng_bench comment "$folder/perf.zip" --commit "$HEAD_SHA" > "$folder/comment.md"

old=$(gh api --paginate "repos/$REPOSITORY/issues/$pull/comments" \
  --jq ".[] | select(.user.login == \"github-actions[bot]\" and (.body | startswith(\"$MARK\"))) | .id" | head -n 1)
if [[ $old =~ ^[0-9]+$ ]]; then
  gh api --method PATCH "repos/$REPOSITORY/issues/comments/$old" -F body=@"$folder/comment.md" > "$folder/answer"
else
  gh api --method POST "repos/$REPOSITORY/issues/$pull/comments" -F body=@"$folder/comment.md" > "$folder/answer"
fi
