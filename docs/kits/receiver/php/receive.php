<?php
// A receiver of webhooks that needs nothing but PHP: it verifies, stores once, and answers.

const TOLERANCE = 300; // seconds
const MOST_BYTES = 1_000_000;

/** Whether a request was signed with the key, just now, and is as it was sent. */
function is_ours(string $key, string $body): bool
{
    $sent_at = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if (!preg_match('/^[0-9]{1,12}$/D', $sent_at) || abs(time() - (int) $sent_at) > TOLERANCE) {
        return false;
    }
    $signed = ($_SERVER['HTTP_WEBHOOK_ID'] ?? '') . ".$sent_at.$body";
    $wanted = 'v1,' . base64_encode(hash_hmac('sha256', $signed, $key, true));
    // There is a signature for each secret that is live: two, while the secret is rotated.
    foreach (explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $given) {
        if (hash_equals($wanted, $given)) {
            return true;
        }
    }
    return false;
}

/** Stores a delivery in a file that only grows; its line, or null if it is stored already. */
function store(string $path, string $body): ?string
{
    $id = $_SERVER['HTTP_WEBHOOK_ID'];
    $file = fopen($path, 'c+');
    flock($file, LOCK_EX);
    $end = 0;
    // To read it all each time will do for a first day; a database with a unique id does better.
    while (($line = fgets($file)) !== false && str_ends_with($line, "\n")) {
        $end = ftell($file);
        if (json_decode($line)->{'webhook-id'} === $id) {
            return null;
        }
    }
    // What follows the last line end was cut off by a crash, and not answered: it comes again.
    ftruncate($file, $end);
    fseek($file, $end);
    $line = json_encode([
        'webhook-id' => $id,
        'webhook-previous-id' => $_SERVER['HTTP_WEBHOOK_PREVIOUS_ID'] ?? null,
        'webhook-attempt-kind' => $_SERVER['HTTP_WEBHOOK_ATTEMPT_KIND'] ?? null,
        'sequence' => json_decode($body)->sequence ?? null,
        'body' => $body,
    ], JSON_THROW_ON_ERROR);
    if (fwrite($file, "$line\n") !== strlen($line) + 1 || !fsync($file)) {
        throw new RuntimeException('It could not be stored.'); // answered with 500, and sent again
    }
    fclose($file);
    return $line;
}

if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
    http_response_code(405);
    return;
}
$body = file_get_contents('php://input', length: MOST_BYTES + 1); // the bytes as they came
if (strlen($body) > MOST_BYTES) {
    http_response_code(413);
    return;
}
$key = base64_decode(preg_replace('/^whsec_/', '', (string) getenv('WEBHOOK_SECRET')), true);
if (!$key) {
    throw new RuntimeException('WEBHOOK_SECRET is the signing secret of your endpoint: whsec_…');
}
if (!is_ours($key, $body)) {
    http_response_code(401);
    return;
}
$line = store(getenv('DELIVERIES') ?: 'deliveries.jsonl', $body);
http_response_code(204);
if ($line !== null) {
    // The answer leaves when this script ends: let something else do your work, from the file.
    file_put_contents('php://stdout', "$line\n");
}
