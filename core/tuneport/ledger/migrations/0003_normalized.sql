-- The grader `normalised` is now `normalized`. A quote inside a JSON string has a backslash, so only the key is found.
UPDATE jobs SET config = replace(config, '"grader": "normalised"', '"grader": "normalized"');
UPDATE runs SET config = replace(config, '"grader": "normalised"', '"grader": "normalized"');
